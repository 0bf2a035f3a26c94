"""`hf-finetune evaluate`: the rows that it scores are the run's own, and every row that it does not score is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_finetune.cli import main
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.run_json import read_report
from hf_finetune.report.summary import render_summary
from hf_finetune.result.manifest import read_manifest
from hf_finetune.result.own_rows import own_rows
from tests.cli.photos import write_photos
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, 60 in three class folders without splits, and `run`, a probe on them in bfloat16."""
    folder = tmp_path_factory.mktemp("trained")
    write_photos(folder / "all", splits=("train",))
    (folder / "all" / "train").rename(folder / "photos")
    model = save_tiny_vit(folder / "tiny")
    settings = (f"model.name={model}", f"data.name={folder / 'photos'}", f"output.dir={folder / 'run'}")
    small = ("ladder=[probe]", "train.precision=bf16", "train.decode_workers=1", "data.validation_share=0.2")
    assert main(["train", "quickstart", *settings, *small]) == 0
    return folder


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` whose run says that its photos lie in the copy."""
    shutil.copytree(trained / "photos", tmp_path / "photos")
    shutil.copytree(trained / "run", tmp_path / "run")
    for name in ("run/recipe.yaml", "run/adapter/recipe.yaml", "run/splits.json"):
        text = (tmp_path / name).read_text("utf-8").replace(str(trained / "photos"), str(tmp_path / "photos"))
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_a_result_from_elsewhere_does_not_say_where_to_write(own: Path, tmp_path: Path, cli: Cli) -> None:
    alone, wanted = tmp_path / "from elsewhere", tmp_path / "theirs"
    shutil.copytree(own / "run" / "adapter", alone)
    recipe = yaml.safe_load((alone / "recipe.yaml").read_text("utf-8"))
    recipe["data"]["cache_dir"] = str(wanted)
    (alone / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    for data in ([], ["--data", own / "photos"]):
        code, _, said = cli("evaluate", alone, *data, "--split", "train")
        assert code == 0, said
        assert not wanted.exists()
    assert cli("evaluate", alone, "--split", "train", f"data.cache_dir={wanted}")[0] == 0
    assert wanted.exists()  # a person may say so


def record(folder: Path) -> dict[str, list[str]]:
    return json.loads((folder / "run" / "splits.json").read_text("utf-8"))["names"]


def scored(folder: Path, split: Any = "test") -> set[str]:
    """The names of the rows that `evaluate` scores."""
    adapter = folder / "run" / "adapter"
    data = load_recipe(adapter / "recipe.yaml").data
    rows = own_rows(adapter, data, read_manifest(adapter), split, 0, moved=False)
    return {row.name for row in rows.index.splits[split]}


def test_the_run_s_own_rows_are_scored_after_pictures_were_added_and_removed(own: Path, cli: Cli) -> None:
    before = record(own)
    assert scored(own) == set(before["test"])
    for number in range(30):
        shutil.copy(own / "photos" / "1" / "0.jpg", own / "photos" / "1" / f"new {number}.jpg")
    removed, kept = before["test"][0], set(before["test"][1:])
    (own / "photos" / removed).unlink()
    (own / "photos" / before["train"][0]).unlink()
    assert scored(own) == kept
    assert scored(own, "validation") == set(before["validation"])
    assert scored(own, "train") == set(before["train"][1:])
    code, out, _ = cli("evaluate", own / "run")
    words = " ".join(out.split())
    assert (code, "(8 images" in words) == (0, True)
    assert f"no longer there: 1 of the 9 images that the run had ({removed})" in words
    assert "30 images added since the run, and not scored: test was cut before" in words
    # a new class is no reason to refuse the old ones
    shutil.copytree(own / "photos" / "1", own / "photos" / "cat")
    assert scored(own) == kept
    # without the run folder nobody knows which rows were cut
    shutil.move(own / "run" / "adapter", own / "alone")
    code, _, err = cli("evaluate", own / "alone")
    assert code == 2
    assert "photos has changed since the run, and which rows were cut from it for test is known to the run" in err


def test_data_that_moved_are_found_by_name_and_not_sought_on_the_hub(own: Path, cli: Cli) -> None:
    recipe = own / "run" / "adapter" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace(f"{own / 'photos'}", "photos"), "utf-8")  # as it was written
    assert scored(own) == set(record(own)["test"])  # from any folder
    (own / "photos").rename(own / "pictures")
    code, _, err = cli("evaluate", own / "run")
    assert code == 2
    assert f"the images of the run are expected where they were, found nothing at {own / 'photos'}" in err
    assert "data.name=PLACE" in err and "HF_HUB_OFFLINE" not in err
    code, out, _ = cli("evaluate", own / "run", f"data.name={own / 'pictures'}", "--json")
    assert (code, json.loads(out)["rows"], json.loads(out)["notes"]) == (0, 9, [])
    code, out, _ = cli("evaluate", own / "run", "--data", own / "pictures")
    fitted = sum(len(record(own)[split]) for split in ("train", "validation"))  # the head knows both
    said = f"{fitted} images of these bear names that the run was trained on"
    assert (code, said in " ".join(out.split())) == (0, True)
    (own / "pictures").rename(own / "photos")
    code, out, _ = cli("evaluate", own / "run", "--data", own / "photos" / "1")
    assert (code, "of these the run was trained on" in " ".join(out.split())) == (0, True)


def test_rows_that_cannot_be_scored_are_refused_or_named(own: Path, cli: Cli) -> None:
    lines = ["file,diagnosis,hospital", *(f"photos/1/{n}.jpg,1,a" for n in range(20)), "photos/none.jpg,1,b"]
    table = own / "rows.csv"
    table.write_text("\n".join(lines) + "\n", "utf-8")
    told = ("--data", table, "data.label_column=diagnosis")
    code, _, err = cli("evaluate", own / "run", *told)
    assert code == 2
    assert "data.max_bad_share" in err and "found 1 of 21: photos/none.jpg: file not found" in err
    code, out, _ = cli("evaluate", own / "run", *told, "data.max_bad_share=0.05", "--json")
    said = json.loads(out)
    assert (code, said["rows"], said["left_out"]) == (
        0,
        20,
        [{"name": "photos/none.jpg", "reason": "file not found"}],
    )
    ours = sum(name.startswith("1/") for split in ("train", "validation") for name in record(own)[split])
    assert said["notes"][0].startswith(f"{ours} images of these the run was trained on: ")
    (own / "photos" / "1" / "3.jpg").write_bytes(b"no image")
    code, out, _ = cli("evaluate", own / "run", *told, "data.max_bad_share=0.1")
    words = " ".join(out.split())
    assert code == 0
    assert "left out 2 rows that cannot be scored: photos/none.jpg: file not found; photos/1/3.jpg" in words
    # one class folder alone is as good as a table of it; a class that the result does not know is no class
    shutil.copytree(own / "photos" / "1", own / "one" / "1", ignore=shutil.ignore_patterns("3.jpg"))
    for place in (own / "one", own / "one" / "1"):
        assert json.loads(cli("evaluate", own / "run", "--data", place, "--json")[1])["rows"] == 19
    (own / "one" / "1").rename(own / "one" / "cat")
    assert "labels that the result does not know: cat" in cli("evaluate", own / "run", "--data", own / "one")[2]
    assert "a folder for each class is expected" in cli("evaluate", own / "run", "--data", own / "one" / "cat")[2]
    code, _, err = cli("evaluate", own / "run", "train.epochs=3")
    assert (code, "train.epochs: to score a result, keys that say where images are" in err) == (2, True)


def test_evaluate_says_why_the_run_reported_another_loss(own: Path, cli: Cli) -> None:
    code, out, _ = cli("evaluate", own / "run", "--split", "validation", "--json")
    said = json.loads(out)
    before = json.loads((own / "run" / "run.json").read_text("utf-8"))["validation"]
    assert code == 0
    assert said["in_training"]["loss"] == pytest.approx(before["loss"], rel=1e-5)
    assert (said["precision"], said["in_training"]["precision"]) == ("fp32", "bf16")
    metrics = own / "run" / "adapter" / "metrics.json"
    told = json.loads(metrics.read_text("utf-8"))
    told["validation"]["loss"] = 0.561
    metrics.write_text(json.dumps(told), "utf-8")
    words = " ".join(cli("evaluate", own / "run", "--split", "validation")[1].split())
    assert "loss 0.561 for these rows: the head was fitted on them too in the end, and its figure is of heads" in words
    manifest = own / "run" / "adapter" / "hf_finetune.json"
    content = json.loads(manifest.read_text("utf-8"))
    assert content.pop("fitted_on") == ["train", "validation"]
    manifest.write_text(json.dumps(content), "utf-8")  # of an earlier version, whose head knew training rows alone
    report = json.loads((own / "run" / "run.json").read_text("utf-8"))
    (own / "run" / "run.json").write_text(json.dumps({**report, "files": {}}), "utf-8")  # it would tell the change
    words = " ".join(cli("evaluate", own / "run", "--split", "validation")[1].split())
    assert "loss 0.561 for these rows: it scored them in bf16, in which it trained, and here weights" in words
    told["validation"]["accuracy"] -= 0.4
    metrics.write_text(json.dumps(told), "utf-8")
    words = " ".join(cli("evaluate", own / "run", "--split", "validation")[1].split())
    assert "so much is no rounding: images, labels or libraries are others than then" in words
    summary = render_summary(read_report(own / "run" / "run.json"), own / "run")
    assert "scored in validation in bf16, in which it trained; test in fp32" in " ".join(summary.split())


def test_a_run_that_kept_groups_together_is_scored_on_its_own_cut(trained: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    grouped = (f"data.name={trained / 'photos'}", r"data.group_pattern=(\d)\.", "data.split_seed=7", "train.seed=3")
    settings = (f"model.name={trained / 'tiny'}", f"output.dir={run}", "ladder=[probe]", "train.decode_workers=1")
    code, _, err = cli("train", "quickstart", *settings, *grouped)
    assert code == 0
    names = record(tmp_path)
    last_digits = {split: {name.rpartition(".")[0][-1] for name in its} for split, its in names.items()}
    assert not last_digits["train"] & last_digits["test"]
    assert "kept together: 10 groups" in err
    assert scored(tmp_path) == set(names["test"])
    (run / "splits.json").unlink()  # an adapter by itself is cut anew, as the recipe says
    assert scored(tmp_path) == set(names["test"])
    code, _, err = cli("evaluate", run, "data.split_seed=1")
    assert code == 2 and "data.split_seed: to score a result" in err


def test_rows_that_shots_left_out_are_neither_scored_as_train_nor_called_new(
    trained: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = trained / "run" / "recipe.yaml"
    code, _, err = cli("train", recipe, "data.shots=4", f"output.dir={tmp_path / 'few'}")
    assert code == 0, err
    for split, rows in (("train", 12), ("test", 9)):
        code, out, err = cli("evaluate", tmp_path / "few", "--split", split, "--json")
        assert code == 0, err
        score = json.loads(out)
        assert (score["rows"], score["notes"]) == (rows, [])
    code, _, err = cli("evaluate", tmp_path / "few", "data.shots=2")
    assert code == 2
    assert "data.shots" in err
