"""Data without a recipe: a backbone is chosen, everything is planned, and the recipe lies in the run folder."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import hf_finetune
from hf_finetune.errors import RecipeError, RunFolderError
from hf_finetune.plan.backbone import BACKBONES
from tests.hub_server.fixture import Hub, hub  # noqa: F401
from tests.hub_server.repos import timm_model

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]
REPO = Path(__file__).resolve().parents[2]
# A process of its own, since HF_ENDPOINT is read when huggingface_hub is imported; several commands in one.
RUN_ALL = """
import contextlib, io, json, sys
from hf_finetune.cli import main
said = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


def run_all(commands: list[list[str]], env: dict[str, str], folder: Path) -> list[tuple[int, str, str]]:
    process = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(commands)],
        env=env | {"PYTHONPATH": str(REPO), "HF_FINETUNE_CACHE": str(folder / "cache")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return [tuple(each) for each in json.loads(process.stdout.splitlines()[-1])]


def test_a_folder_alone_is_trained_with_a_backbone_of_the_hub(
    hub: Hub,  # noqa: F811
    photos: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = BACKBONES[0].name
    timm_model(hub.folder, tiny)
    (tmp_path / "birds").symlink_to(photos)
    command = ["train", "birds/", "budget.time=1s"]  # too short for any but the smallest
    first, again = run_all([command, command], hub.env(), tmp_path)
    assert first[0] == 0, first[2]
    assert f"Backbone: {tiny} (5.7 million weights, 22.8 MB), the smallest of 4 for " in first[2]
    assert "hf-finetune predict runs/birds photo.jpg" in first[1]
    recipe = yaml.safe_load((tmp_path / "runs" / "birds" / "recipe.yaml").read_text())
    assert (recipe["model"]["name"], recipe["data"]["name"]) == (tiny, "birds/")
    assert (again[0], "is finished" in again[2]) == (0, True)

    # Without a network another that is in the Hub's cache is taken.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.home / "hub"))
    code, out, err = cli("check", "birds", "budget.time=100h", "output.dir=runs/new")
    assert (code, yaml.safe_load(out)["model"]["name"]) == (0, tiny)
    assert f"is out of reach; {tiny} is in this machine's Hub cache and is taken." in err


def test_without_a_network_and_a_cached_backbone_the_remedies_are_said(
    photos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    code, _, err = cli("train", photos, "budget.time=1s")
    assert code == 2
    remedies = ("unset HF_HUB_OFFLINE", f"`hf download {BACKBONES[0].name}`", "model.name=FOLDER")
    assert all(remedy in err for remedy in remedies), err
    assert cli("check", photos, "model.name=builtin:starter")[0] == 0  # the last one, followed


def test_data_may_be_a_folder_a_table_or_a_key(
    photos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.v2.csv").write_text(
        "image,label\n" + "".join(f"{file},{file.parent.name}\n" for file in (photos / "train").rglob("*.jpg"))
    )
    starter = "model.name=builtin:starter"
    for written, run in ((photos, photos.name), ("labels.v2.csv", "labels.v2"), (f"data.name={photos}", photos.name)):
        code, out, err = cli("check", written, starter, "train.epochs=2")
        assert code == 0, err
        recipe = yaml.safe_load(out)
        assert (recipe["output"]["dir"], recipe["train"]["epochs"]) == (f"runs/{run}", 2)
    assert "steps " in cli("plan", photos, starter)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "A recipe or data is expected.\n  Such as `hf-finetune train photos/`"),
        (["budget.time=5m"], "A recipe or data is expected."),
        (["quikstart"], "There is no recipe or folder at quikstart.\n  Did you mean quickstart?"),
        (["user/pictures"], "A dataset of the Hub: data.name=user/pictures."),
        (
            ["nowhere.csv"],
            "data.name: a folder, table file, tar shard or Hub id is expected, found nothing at nowhere",
        ),
        (["photos.zip"], "data.name: a folder"),
    ],
)
def test_what_is_neither_says_what_it_could_have_been(
    arguments: list[str], said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("train", "plan", "check"):
        code, _, err = cli(verb, *arguments)
        assert (code, said in err) == (2, True), err


def test_a_run_on_the_same_data_keeps_its_backbone_and_its_folder_is_a_recipe(
    photos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"runs/{photos.name}"
    recipe = {"model": {"name": "builtin:starter"}, "budget": {"time": 0}, "data": {"name": str(photos)}}
    run = hf_finetune.train({**recipe, "output": {"dir": place}})
    assert repr(run).startswith(f"<Run in {place}: 3 classes, test accuracy 0.") or "accuracy 1.000>" in repr(run)
    code, _, err = cli("train", place)
    assert (code, "is finished" in err) == (0, True)
    assert yaml.safe_load(cli("check", photos)[1])["model"]["name"] == "builtin:starter"
    with pytest.raises(RunFolderError, match=r"different there: budget.time \('0s', now None\)"):
        hf_finetune.train(data=photos)
    with pytest.raises(RecipeError, match="Without a recipe, data= is a folder or a table file; found list"):
        hf_finetune.train(data=[("a.jpg", "a")])


def test_rank_ends_with_the_command_that_trains_the_winner(
    photos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").symlink_to(photos)
    code, out, _ = cli("rank", "builtin:starter", "--data", "my photos", "--images", "12", "--set", "train.seed=3")
    last = out.splitlines()[-1].strip()
    assert code == 0
    assert last == "hf-finetune train 'my photos' model.name=builtin:starter train.seed=3"
    code, out, err = cli("check", *shlex.split(last)[2:])
    assert (code, yaml.safe_load(out)["train"]["seed"]) == (0, 3), err
