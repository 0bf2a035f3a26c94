"""What a person does with `hf-finetune fix`, and what is refused with nothing lost."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.hub.stage import finished_run, stage_run
from hf_finetune.pipeline.finished import Run, read_run
from hf_finetune.result.evaluate import evaluate
from hf_finetune.run.features_file import read_features
from hf_finetune.run.folder import RunFolder
from tests.pipeline.fix.worlds import SAFE, picture, probe, write_photos, write_table

pytestmark = [
    pytest.mark.e2e,
    # Of transformers' own loading, in the card's lines.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
DARK, BRIGHT, STRIPED = SAFE
Fix = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("fix") / "photos", train=16, others=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return probe(photos, tmp_path_factory.mktemp("runs") / "run", data={"cache_dir": str(cache)})


@pytest.fixture(scope="module")
def trained(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A LoRA of one short epoch, alone on its ladder."""
    out, more = tmp_path_factory.mktemp("trained") / "trained", {"data": {"cache_dir": str(cache)}}
    return probe(photos, out, ladder=["full"], train={"micro_batch": "auto", "epochs": 1}, **more)


@pytest.fixture
def fix(capsys: pytest.CaptureFixture[str]) -> Fix:
    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["fix", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return command


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_fixed_run_is_a_run_like_any(run: Run, tmp_path: Path, fix: Fix) -> None:
    before, out = content_of(run.folder.path), tmp_path / "fixed"
    lines = [(f"train/{DARK}/1.png", "exclude", ""), (f"validation/{BRIGHT}/101.png", "relabel", STRIPED),
             (f"validation/{BRIGHT}/102.png", "exclude", ""), (f"test/{DARK}/201.png", "relabel", STRIPED),
             (f"test/{DARK}/202.png", "exclude", "")]  # fmt: skip
    code, said, _ = fix(run.folder.path, write_table(tmp_path / "t.csv", lines), "--out", out)
    assert code == 0
    words = " ".join(said.split())
    assert "train 1 row left out" in words and "validation 1 label corrected, 1 row left out" in words
    assert "on validation as it is labelled now" in words and str(out / "adapter") in words
    assert content_of(run.folder.path) == before

    fixed = read_run(RunFolder(out))
    assert fixed.report["data"]["counts"] == {"train": 47, "validation": 23, "test": 23}
    assert fixed.report["model"]["fitted_on"] == list(hf_finetune.load(out).manifest.fitted_on)
    for split in ("validation", "test"):
        again = evaluate(out, split=split)
        assert (again["rows"], again["accuracy"]) == (23, pytest.approx(fixed.report[split]["accuracy"], abs=0.05))
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        labels = {line["row"]: line["label"] for line in csv.DictReader(file)}
    assert labels[f"test/{DARK}/201.png"] == STRIPED and f"test/{DARK}/202.png" not in labels
    code, _, _ = fix(out, write_table(tmp_path / "u.csv", [(f"train/{DARK}/2.png", "exclude", "")]), "--no-test")
    assert code == 0 and (tmp_path / "fixed-fixed" / "adapter").is_dir()

    staged = tmp_path / "staged"
    staged.mkdir()
    stage_run(finished_run(out), staged, "user/name")
    names = {path.name for path in staged.rglob("*")}
    assert "adapter_model.safetensors" in names and not {"features.safetensors", "corrections.csv"} & names
    card = (staged / "README.md").read_text(encoding="utf-8")
    assert "Fixed after training: 1 row left out in train; 1 label corrected, 1 row left out in validation" in card
    assert "101.png" not in card and str(tmp_path) not in card


def test_a_new_class_is_answered_by_stock_libraries(
    run: Run, tmp_path: Path, fix: Fix, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for number in range(400, 410):
        picture(number, 3).save(new / f"{number}.png")
    table = write_table(tmp_path / "t.csv", [(f"new/{number}.png", "relabel", "crossed") for number in range(400, 409)])
    code, _, error = fix(run.folder.path, table, "--out", tmp_path / "fixed")
    assert code == 2 and "--new-classes" in error and not (tmp_path / "fixed").exists()
    code, said, _ = fix(run.folder.path, table, "--new-classes", "--out", tmp_path / "fixed")
    assert code == 0 and "new classes crossed" in " ".join(said.split())
    assert "Validation has no image of crossed" in " ".join(said.split())
    (answer,) = hf_finetune.load(tmp_path / "fixed").predict([new / "409.png"])
    assert answer.as_json()["predictions"][0]["label"] == "crossed"
    card = (tmp_path / "fixed" / "adapter" / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace("ADAPTER_PATH_OR_HUB_ID", str(tmp_path / "fixed" / "adapter")).replace("photo.jpg", "409.png")
    monkeypatch.chdir(new)
    capsys.readouterr()
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.startswith("crossed")


def test_what_training_again_would_lack_is_said(trained: Run, tmp_path: Path, fix: Fix) -> None:
    new = [(f"train/{DARK}/{number}.png", "relabel", "crossed") for number in range(3, 9)]
    table = write_table(tmp_path / "t.csv", [*new, (f"train/{DARK}/1.png", "exclude", "")])
    place = shutil.copytree(trained.folder.path, tmp_path / "trained")
    code, said, _ = fix(place, table, "--new-classes", "--no-test", "--out", tmp_path / "fixed")
    words = " ".join(said.split())
    assert code == 0 and "corrections.csv leaves out 6 rows of crossed" in words
    assert "left out, without 6 rows that the dataset lacks" in words
    fixed = read_run(RunFolder(tmp_path / "fixed"))
    assert fixed.report["fix"]["only_here"] == {"new_class": 6, "added": 0}
    assert any("6 rows of crossed" in each for each in fixed.report["fix"]["advice"])
    # A later fix says so of the earlier ones too.
    table = write_table(tmp_path / "u.csv", [(f"train/{DARK}/2.png", "exclude", "")])
    code, said, _ = fix(tmp_path / "fixed", table, "--no-test", "--out", tmp_path / "again")
    assert code == 0 and "corrections.csv leaves out 6 rows of crossed" in " ".join(said.split())


@pytest.mark.parametrize("folder", ["=Bright", "=brigth", "crossed"])
def test_a_folder_of_an_unknown_class_is_asked_about(
    run: Run, folder: str, tmp_path: Path, fix: Fix, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "more" / folder).mkdir(parents=True)
    for number in range(400, 404):
        picture(number, 1).save(tmp_path / "more" / folder / f"{number}.png")
    more = ("--add", tmp_path / "more", "--no-test", "--out", tmp_path / "fixed")
    code, _, error = fix(run.folder.path, *more)
    assert code == 2 and "--add" in error and "--new-classes" in error and not (tmp_path / "fixed").exists()
    assert ("did you mean '=bright'? A class" in " ".join(error.split())) == (folder != "crossed")
    code, _, error = fix(run.folder.path, *more, "--new-classes")
    assert code == 0 and ("only in case or blanks" in error + caplog.text) == (folder == "=Bright")
    assert hf_finetune.load(tmp_path / "fixed").labels.names == (*sorted(SAFE), folder)


def test_a_run_that_joined_alike_names_joins_added_folders(photos: Path, cache: Path, tmp_path: Path, fix: Fix) -> None:
    run = probe(photos, tmp_path / "run", data={"cache_dir": str(cache), "join_alike": True})
    (tmp_path / "more" / "=Bright").mkdir(parents=True)
    picture(400, 1).save(tmp_path / "more" / "=Bright" / "400.png")
    code, said, _ = fix(run.folder.path, "--add", tmp_path / "more", "--no-test")
    assert code == 0 and "1 row added" in said and "new classes" not in said


def test_a_trained_result_takes_one_pass_and_then_no_image(
    trained: Run, photos: Path, tmp_path: Path, fix: Fix
) -> None:
    assert not trained.folder.features.exists()
    place = shutil.copytree(trained.folder.path, tmp_path / "trained")
    before = content_of(place)
    table = write_table(tmp_path / "t.csv", [(f"train/{DARK}/1.png", "exclude", "")])
    code, said, _ = fix(place, table)
    assert code == 0
    words = " ".join(said.split())
    assert "What full trained below the head stays: the adapter still has learnt from 1 row as it was" in words
    assert "Training again is" in words and "data.corrections=" in words
    after = content_of(place)
    assert set(after) - set(before) == {"features.safetensors"}
    assert {name: after[name] for name in before} == before
    adapters = [hf_finetune.load(each).model.state_dict() for each in (place, tmp_path / "trained-fixed")]
    low_rank = [name for name in adapters[0] if "lora_" in name]
    assert low_rank and all((adapters[0][name] == adapters[1][name]).all() for name in low_rank)

    gone = photos.rename(photos.with_name("gone"))
    try:
        code, said, _ = fix(place, table, "--out", tmp_path / "again")
        assert code == 0 and "not scored" in said
        place.joinpath("features.safetensors").unlink()
        code, _, error = fix(place, table, "--out", tmp_path / "never")
    finally:
        gone.rename(photos)
    one, other = (read_run(RunFolder(tmp_path / name)).report["validation"] for name in ("trained-fixed", "again"))
    assert one == other
    assert code == 2 and "are not kept" in error and "data.corrections" in error
    assert not list(tmp_path.glob("never*"))


def test_a_whole_model_is_fixed_too(photos: Path, cache: Path, tmp_path: Path, fix: Fix) -> None:
    run = probe(photos, tmp_path / "whole", ladder=["full"], train={"micro_batch": "auto", "epochs": 1},
                adapter={"kind": "full"}, data={"cache_dir": str(cache)})  # fmt: skip
    new = tmp_path / "more" / "crossed"
    new.mkdir(parents=True)
    for number in range(400, 408):
        picture(number, 3).save(new / f"{number}.png")
    code, said, _ = fix(run.folder.path, "--add", new.parent, "--no-test", "--new-classes")
    assert code == 0
    assert "8 added rows are not in the dataset" in " ".join(said.split())
    (answer,) = hf_finetune.load(tmp_path / "whole-fixed").predict([new / "400.png"])
    assert len(answer.as_json()["predictions"]) == 1
    assert hf_finetune.load(tmp_path / "whole-fixed").labels.names == (*sorted(SAFE), "crossed")


def test_a_budget_of_time_keeps_features_too(photos: Path, cache: Path, tmp_path: Path) -> None:
    run = probe(photos, tmp_path / "run", budget={"time": "60s"}, data={"cache_dir": str(cache)})
    kept = read_features(run.folder.features)
    assert (len(kept.rows["train"]), len(kept.rows["validation"])) == (48, 24)
    assert kept.about["rung"] == "probe"


WRONG = {
    "a row that is not there": ([(f"train/{DARK}/1.jpg", "exclude", "")], f"did you mean 'train/{DARK}/1.png'"),
    "a label that is misspelt": ([(f"train/{DARK}/1.png", "relabel", "=brigth")], "did you mean '=bright'"),
    "no label": ([(f"train/{DARK}/1.png", "relabel", "")], "a label of the run is expected"),
    "what is so already": ([(f"train/{DARK}/1.png", "relabel", DARK)], "changes nothing"),
    "nothing": ([(f"train/{DARK}/1.png", "keep", BRIGHT)], "changes nothing"),
    "two labels": ([(f"train/{DARK}/1.png", "relabel", BRIGHT), (f"train/{DARK}/1.png", "relabel", STRIPED)],
                   "one label is expected"),
    "a whole class": ([(f"train/{STRIPED}/{n}.png", "exclude", "") for n in range(16)], "none would be left of"),
    "all of validation": ([(f"validation/{name}/{n}.png", "exclude", "") for name in SAFE for n in range(100, 108)],
                          "validation rows are expected to stay"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_table_is_refused(run: Run, tmp_path: Path, fix: Fix, what: str) -> None:
    lines, expected = WRONG[what]
    before = content_of(run.folder.path)
    code, _, error = fix(run.folder.path, write_table(tmp_path / "t.csv", lines), "--out", tmp_path / "fixed")
    assert code == 2 and expected in error and "Traceback" not in error
    assert content_of(run.folder.path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_wrong_place_is_refused(run: Run, tmp_path: Path, fix: Fix) -> None:
    table = write_table(tmp_path / "t.csv", [(f"train/{DARK}/1.png", "exclude", "")])
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine.txt").write_text("mine", encoding="utf-8")
    for place in (run.folder.path, run.folder.path / "inside", run.folder.path.parent, there):
        for more in ((), ("--overwrite",)):
            code, _, error = fix(run.folder.path, table, "--out", place, *more)
            assert code == 2 and "--out" in error
    assert (there / "mine.txt").read_text(encoding="utf-8") == "mine"
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copyfile(run.folder.recipe, unfinished / "recipe.yaml")
    code, _, error = fix(unfinished, table)
    assert code == 2 and "unfinished" in error


def test_only_overwrite_takes_the_place_of_another_run(run: Run, tmp_path: Path, fix: Fix) -> None:
    place = shutil.copytree(run.folder.path, tmp_path / "run")
    table = write_table(tmp_path / "t.csv", [(f"train/{DARK}/1.png", "exclude", "")])
    assert fix(place, table, "--no-test")[0] == 0
    code, _, error = fix(place, table, "--no-test")
    assert code == 2 and "--overwrite" in error
    wrong = write_table(tmp_path / "wrong.csv", [("nothing", "exclude", "")])
    before = content_of(tmp_path / "run-fixed")
    assert fix(place, wrong, "--no-test", "--overwrite")[0] == 2
    assert content_of(tmp_path / "run-fixed") == before
    assert fix(place, table, "--no-test", "--overwrite")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-fixed", "t.csv", "wrong.csv"]


@pytest.mark.parametrize(
    "what", ["damaged", "of another run", "of other rows", "other weights", "none and a fixed run"]
)
def test_features_that_do_not_belong_are_refused(run: Run, tmp_path: Path, fix: Fix, what: str) -> None:
    place = shutil.copytree(run.folder.path, tmp_path / "run")
    table = write_table(tmp_path / "t.csv", [(f"train/{DARK}/1.png", "exclude", "")])
    features, manifest = place / "features.safetensors", place / "adapter" / "hf_finetune.json"
    if what == "damaged":
        features.write_bytes(features.read_bytes()[:-100])
    elif what == "of another run":
        held = np.load(place / "held.npz")
        np.savez(place / "held.npz", **{**held, "pixels": 255 - held["pixels"]})
    elif what == "of other rows":
        record = place / "splits.json"
        record.write_text(record.read_text(encoding="utf-8").replace("/5.png", "/five.png"), encoding="utf-8")
    elif what == "other weights":
        content = json.loads(manifest.read_text(encoding="utf-8"))
        manifest.write_text(json.dumps({**content, "fingerprint": "0" * 64}), encoding="utf-8")
    else:
        assert fix(place, table, "--no-test")[0] == 0
        place = tmp_path / "run-fixed"
        (place / "features.safetensors").unlink()
        table = write_table(tmp_path / "u.csv", [(f"train/{DARK}/2.png", "exclude", "")])
    expected = {"damaged": "is damaged", "of another run": "the features that the run kept are expected",
                "of other rows": "found those of another run",
                "other weights": "trained on other weights", "none and a fixed run": "found none"}[what]  # fmt: skip
    code, _, error = fix(place, table, "--out", tmp_path / "never")
    assert code == 2 and expected in error
    assert not list(tmp_path.glob("never*"))


def test_what_cannot_be_read_or_is_there_already_is_left_out(run: Run, photos: Path, tmp_path: Path, fix: Fix) -> None:
    more = tmp_path / "more"
    for name in (DARK, BRIGHT):
        (more / name).mkdir(parents=True)
    picture(900, 0).save(more / DARK / "new.png")
    (more / DARK / "broken.png").write_bytes((more / DARK / "new.png").read_bytes()[:90])
    shutil.copyfile(photos / "train" / BRIGHT / "3.png", more / BRIGHT / "copy.png")
    shutil.copyfile(photos / "validation" / BRIGHT / "103.png", more / BRIGHT / "leak.png")
    shutil.copyfile(photos / "test" / BRIGHT / "203.png", more / BRIGHT / "tested.png")
    code, said, error = fix(run.folder.path, "--add", more, "--out", tmp_path / "fixed", "--no-test")
    assert code == 0 and "broken.png" in error
    words = " ".join(said.split())
    assert "4 rows added" in words and "1 of the added look exactly like rows of train" in words
    assert "1 of the added look exactly like rows of validation" in words
    assert "1 of the added look exactly like images of test" in words
    code, _, error = fix(run.folder.path, "--add", photos / "train", "--out", tmp_path / "own")
    assert code == 2 and "changes nothing" in error


def test_suggested_images_are_unlike_each_other_and_can_be_learnt(run: Run, tmp_path: Path, fix: Fix) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for number in range(500, 512):
        picture(number, number % 3).save(pool / f"{number}.png")
    for copy in range(30):  # of one picture, a pixel apart
        image = picture(600, 3)
        image.putpixel((copy, 0), (0, 0, 0))
        image.save(pool / f"copy{copy}.png")
    table = tmp_path / "todo.csv"
    code, said, _ = fix(run.folder.path, "--suggest", pool, "--count", 6, "--out", table)
    assert code == 0 and "margin sampling" in said and "farthest point" in said
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "path,finding,score,action,label,says" and len(lines) == 7
    assert sum("copy" in line for line in lines) <= 2
    code, _, error = fix(run.folder.path, table, "--out", tmp_path / "fixed", "--no-test")
    assert code == 2 and "6 images in it lack a label still" in error
    filled = [lines[0], *(line.replace("relabel,,", f"relabel,{DARK if ',' not in DARK else BRIGHT},")
                          for line in lines[1:4]), *lines[4:]]  # fmt: skip
    table.write_text("\n".join(filled), encoding="utf-8")
    code, said, _ = fix(run.folder.path, table, "--out", tmp_path / "fixed", "--no-test")
    assert code == 0 and "3 rows added" in said
    code, _, error = fix(run.folder.path, "--suggest", pool, "--out", table)
    assert code == 2 and "is there already" in error
