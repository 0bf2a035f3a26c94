"""Runs with a loss, metric, callback and transform of the program's own, on one process and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import hf_finetune
from hf_finetune.errors import RunFolderError
from tests.cli.photos import CLASSES, write_photos
from tests.pipeline.own_things import Steps, distance, focal
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("own")
    return {
        "model": {"name": str(save_tiny_vit(folder / "tiny"))},
        "data": {"name": str(write_photos(folder / "photos")), "validation_share": 0.2},
        "augment": {"flip": 0.0, "mixup": 0.2},
        "train": {"epochs": 2, "effective_batch_size": 12, "learning_rate": 0.01, "precision": "fp32"},
        "ladder": ["full"],
    }


def in_folder(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**recipe, "output": {"dir": str(folder)}}


def program(recipe: dict[str, Any], folder: Path, *launcher: str) -> dict[str, Any]:
    """What the program said of its run in `folder`."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(in_folder(recipe, folder)), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key not in ("MASTER_ADDR", "MASTER_PORT")}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "tests.pipeline.own_things", str(path)],
        cwd=REPO,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert all(each["report"] == said[0]["report"] for each in said)
    return {**said[0], "images": sum(each["images"] for each in said)}


def test_all_four_at_once_on_one_process_and_on_two(recipe: dict[str, Any], tmp_path: Path) -> None:
    one = program(recipe, tmp_path / "one")
    two = program(recipe, tmp_path / "two", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    report = json.loads((tmp_path / "one" / "run.json").read_text("utf-8"))
    steps = report["plan"]["steps"]["value"]
    for said in (one, two):
        assert said["steps"] == steps
        # Each training image and its partner of mixup, once an epoch; one small image tries the transform.
        assert said["images"] >= 2 * steps * 12
        assert len(said["shapes"]) <= 2 and all(shape[0] == 3 for shape in said["shapes"])
    assert set(one["report"]) == {"loss", "metrics", "callbacks", "transform"}
    assert one["report"]["loss"].startswith("__main__.focal (")
    assert 0 <= one["test"]["distance"] <= len(CLASSES) - 1
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        # Two halves of an update are summed in another order than its rows in one.
        assert float((value - weights[1][name]).abs().max()) < 1e-3, name


def test_each_changes_what_it_is_for_and_nothing_else(recipe: dict[str, Any], tmp_path: Path) -> None:
    plain = hf_finetune.train(in_folder(recipe, tmp_path / "plain"))
    measured = hf_finetune.train(
        in_folder(recipe, tmp_path / "measured"), metrics={"distance": distance}, callbacks=[Steps()]
    )
    other_loss = hf_finetune.train(in_folder(recipe, tmp_path / "loss"), loss=focal)
    weights = [
        load_file(run.folder.path / "adapter" / "adapter_model.safetensors") for run in (plain, measured, other_loss)
    ]
    same = [all((value == other[name]).all() for name, value in weights[0].items()) for other in weights[1:]]
    assert same == [True, False]
    assert "distance" in measured.report["test"] and "distance" not in plain.report["test"]
    assert "extensions" not in plain.report or plain.report["extensions"] == {}


def test_a_folder_whose_run_began_with_others_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    content = in_folder({**recipe, "ladder": ["probe"]}, tmp_path / "run")
    hf_finetune.train(content, loss=focal)
    with pytest.raises(RunFolderError, match=r"began with others of the program's own: loss= \(.*focal.*, now None\)"):
        hf_finetune.train(content)
    with pytest.raises(RunFolderError, match=r"metrics= \(None, now .*distance"):
        hf_finetune.train(content, loss=focal, metrics={"distance": distance})
    (tmp_path / "run" / "run.json").unlink()  # an unfinished run is told likewise, but metrics change no training
    with pytest.raises(RunFolderError, match=r"loss= \(.*focal.*, now None\)"):
        hf_finetune.train(content)
    run = hf_finetune.train(content, loss=focal, metrics={"distance": distance})
    assert set(run.report["extensions"]) == {"loss", "metrics"}
