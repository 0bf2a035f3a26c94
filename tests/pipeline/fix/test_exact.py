"""What a fix fits is what training from scratch on the same rows fits, whatever was done in which order."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hf_finetune.pipeline.finished import Run
from hf_finetune.pipeline.fix.fix import fix
from hf_finetune.pipeline.fix.taught import Wishes
from tests.pipeline.fix.worlds import SAFE, apart, picture, probe, write_labelled, write_photos, write_table
from tests.pipeline.labelled import write_pictures

pytestmark = pytest.mark.e2e
EXACT = 1e-5
DARK, BRIGHT, STRIPED = SAFE
LINES = [
    (f"train/{DARK}/1.png", "relabel", BRIGHT),
    (f"train/{STRIPED}/4.png", "relabel", DARK),
    (f"train/{BRIGHT}/5.png", "exclude", ""),
    (f"train/{BRIGHT}/6.png", "exclude", ""),
    (f"train/{BRIGHT}/7.png", "keep", DARK),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_photos(tmp_path_factory.mktemp("exact") / "photos")
    # Copies in train are left out together, and stay so.
    for number in (8, 9):
        shutil.copyfile(root / "train" / DARK / f"{number}.png", root / "train" / DARK / f"copy{number}.png")
    return root


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that the run has not seen, one of a class that it does not know either."""
    root = tmp_path_factory.mktemp("more") / "more"
    for kind, name in ((0, DARK), (1, BRIGHT), (3, "crossed")):
        (root / name).mkdir(parents=True)
        for number in range(300, 306):
            picture(number, kind).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return probe(photos, tmp_path_factory.mktemp("runs") / "run")


def corrected(photos: Path, root: Path, more: Path | None) -> Path:
    """The dataset as the table corrects it, and with more images, for training from scratch."""
    shutil.copytree(photos, root)
    for path, action, label in LINES:
        if action == "exclude":
            (root / path).unlink()
        elif action == "relabel":
            (root / path).rename(root / "train" / label / f"was-{Path(path).parent.name}-{Path(path).name}")
    for image in more.rglob("*.png") if more is not None else ():
        (root / "train" / image.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(image, root / "train" / image.parent.name / f"added{image.name}")
    return root


def test_corrections_and_deletions(photos: Path, run: Run, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.folder.path.rglob("*") if path.is_file()}
    table = write_table(tmp_path / "table.csv", LINES)
    fixed = fix(run.folder.path, Wishes(table, out=str(tmp_path / "fixed")))
    scratch = probe(photos, tmp_path / "scratch", data={"corrections": str(table)})
    assert apart(fixed, scratch) <= EXACT
    assert apart(fixed, run) > 0.01
    assert fixed.report["validation"]["accuracy"] == scratch.report["validation"]["accuracy"]
    assert fixed.report["validation"]["loss"] == pytest.approx(scratch.report["validation"]["loss"], rel=1e-4)
    # One is scored in bfloat16 where the machine has it, the other in float32.
    assert fixed.report["test"]["loss"] == pytest.approx(scratch.report["test"]["loss"], rel=0.02)
    for key in ("temperature", "set_threshold", "class_counts"):
        assert fixed.report["task"][key] == pytest.approx(scratch.report["task"][key], rel=1e-4)
    assert fixed.report["data"]["counts"] == scratch.report["data"]["counts"]
    assert {path: path.read_bytes() for path in run.folder.path.rglob("*") if path.is_file()} == before


def test_additions_a_new_class_and_every_order(photos: Path, more: Path, run: Run, tmp_path: Path) -> None:
    first, second = (write_table(tmp_path / f"{n}.csv", LINES[n::2]) for n in range(2))
    at_once = write_table(tmp_path / "table.csv", LINES)
    steps = [
        [Wishes(at_once, [str(more)], new_classes=True)],
        [Wishes(None, [str(more)], new_classes=True), Wishes(first), Wishes(second)],
        [Wishes(second), Wishes(first, [str(more)], new_classes=True)],
    ]
    scratch = probe(corrected(photos, tmp_path / "corrected", more), tmp_path / "scratch")
    for number, wishes in enumerate(steps):
        fixed = run
        for step, wish in enumerate(wishes):
            out = str(tmp_path / f"fixed-{number}-{step}")
            wish = replace(wish, out=out, score_test=False)
            fixed = fix(fixed.folder.path, wish)
        assert apart(fixed, scratch) <= EXACT
        assert fixed.report["fix"]["earlier"] == len(wishes) - 1
        assert fixed.report["data"]["labels"] == [*sorted(SAFE), "crossed"]
        assert fixed.report["validation"]["accuracy"] == scratch.report["validation"]["accuracy"]


def test_what_was_added_can_be_taken_out_again(more: Path, run: Run, tmp_path: Path) -> None:
    known = more.with_name("known")
    shutil.copytree(more, known, ignore=shutil.ignore_patterns("crossed"))
    there = fix(run.folder.path, Wishes(None, [str(known)], out=str(tmp_path / "there"), score_test=False))
    assert there.report["fix"]["added"] == 12
    table = write_table(tmp_path / "t.csv", [(str(path), "exclude", "") for path in known.rglob("*.png")])
    back = fix(there.folder.path, Wishes(table, out=str(tmp_path / "back"), score_test=False))
    assert apart(back, run) <= EXACT
    assert apart(there, run) > 0.01
    again = fix(back.folder.path, Wishes(None, [str(known)], out=str(tmp_path / "again"), score_test=False))
    assert apart(again, there) <= EXACT
    table = (again.folder.path / "corrections.csv").exists()
    assert not table  # of the dataset's own rows nothing was corrected


KINDS = {
    "regression": ("brightness", {"kind": "regression"}, "900.5"),
    "multilabel": ("lit", {"kind": "multilabel", "separator": ";"}, "north;west"),
    "ordinal": ("grade", {"kind": "ordinal"}, "3"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_tasks(kind: str, tmp_path: Path) -> None:
    column, task, label = KINDS[kind]
    table = write_pictures(tmp_path / "source", 120)
    with table.open(encoding="utf-8", newline="") as file:
        every = [(each["image"], each[column]) for each in csv.DictReader(file) if each[column]]
    new, validation, test, own = every[:6], every[6:30], every[30:54], every[54:]
    written = {"train": own, "validation": validation, "test": test}
    data = write_labelled(tmp_path / "data", written, table.parent)
    settings = {"max_bad_share": 0.2}
    run = probe(data, tmp_path / "run", task=task, data=settings)
    (gone, _), (wrong, _) = own[0], own[1]
    lines = [(gone, "exclude", ""), (wrong, "relabel", label)]
    lines += [(str(table.parent / name), "relabel", its) for name, its in new]
    fixed = fix(run.folder.path, Wishes(write_table(tmp_path / "t.csv", lines), out=str(tmp_path / "fixed")))
    wanted = [(name, label if name == wrong else its) for name, its in own if name != gone] + new
    again = write_labelled(tmp_path / "again", {**written, "train": wanted}, table.parent)
    scratch = probe(again, tmp_path / "scratch", task=task, data=settings)
    assert fixed.report["data"]["counts"] == scratch.report["data"]["counts"]
    assert apart(fixed, scratch) <= EXACT
    measure = next(iter(set(scratch.report["test"]) & {"r2", "map", "kappa"}))
    assert fixed.report["test"][measure] == pytest.approx(scratch.report["test"][measure], abs=0.02)
