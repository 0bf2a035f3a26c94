"""Runs that are fixed from another folder, after their images moved, or with tables that were used before."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from hf_finetune.cli import main
from hf_finetune.pipeline.finished import Run, read_run
from hf_finetune.pipeline.fix.fix import fix
from hf_finetune.pipeline.fix.taught import Wishes
from hf_finetune.report.predicted.columns import text_of_cell
from hf_finetune.result.evaluate import evaluate
from hf_finetune.result.split_record import read_record
from hf_finetune.run.folder import RunFolder
from tests.pipeline.fix.worlds import SAFE, probe, write_photos, write_table

pytestmark = pytest.mark.e2e
DARK, BRIGHT, STRIPED = SAFE
OWN = [
    (f"train/{DARK}/1.png", "exclude", ""),
    (f"train/{DARK}/2.png", "relabel", BRIGHT),
    (f"test/{DARK}/200.png", "exclude", ""),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, a table, and a run that was trained with them by relative names."""
    home = tmp_path_factory.mktemp("home")
    write_photos(home / "photos", train=12, others=6)
    write_table(home / "own.csv", OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        probe(Path("photos"), Path("run"), data={"corrections": "own.csv"})
        probe(Path("photos"), Path("trained"), ladder=["full"], train={"micro_batch": "auto", "epochs": 1})
    return home


def lines_of(run: Run) -> set[tuple[str, ...]]:
    """Of a table in which no cell is a formula."""
    with (run.folder.path / "corrections.csv").open(encoding="utf-8", newline="") as file:
        lines = {tuple(line) for line in csv.reader(file)}
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line)
    return {(text_of_cell("path", path), action, text_of_cell("label", label)) for path, action, label in lines}


def test_the_runs_own_corrections_are_known_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    line = (f"train/{DARK}/3.png", "exclude", "")
    # The run's own table, which names rows that it has not, and a line that nobody knows, as doctor writes of copies.
    table = write_table(tmp_path / "t.csv", [*OWN, ("copies/1.png", "exclude", ""), line])
    fixed = fix(home / "run", Wishes(table, out=str(tmp_path / "fixed")))
    assert "exclusion of rows that the run run does not have: 'copies/1.png'" in caplog.text
    assert fixed.report["fix"]["left_out"] == {"train": 1, "validation": 0, "test": 0}
    assert fixed.report["fix"]["relabelled"]["train"] == 0
    assert lines_of(fixed) - {("path", "action", "label")} == {*OWN, line}
    assert evaluate(fixed.folder.path)["rows"] == 17 == fixed.report["data"]["counts"]["test"]
    again = fix(fixed.folder.path, Wishes(write_table(tmp_path / "u.csv", [(f"train/{DARK}/4.png", "exclude", "")])))
    assert {*OWN, line} < lines_of(again)

    copy = shutil.copytree(home / "run", tmp_path / "copy")
    (copy / "data-corrections.csv").unlink()  # as of a run from before they were kept
    caplog.clear()
    without = fix(copy, Wishes(write_table(tmp_path / "v.csv", [line]), score_test=False))
    assert "own.csv" in caplog.text and lines_of(without) == {("path", "action", "label"), line}


def test_another_label_of_an_unknown_row_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [("nowhere.png", "relabel", DARK), (f"train/{DARK}/3.png", "exclude", "")]
    assert main(["fix", str(home / "run"), str(write_table(tmp_path / "t.csv", lines)), "--out", "never"]) == 2
    assert "nowhere.png" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "trained"])
def test_images_that_moved_are_found_where_they_are_now(
    home: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, moved = shutil.copytree(home / name, tmp_path / name), tmp_path / "moved"
    shutil.copytree(home / "photos", moved, copy_function=shutil.copyfile)
    gone = (home / "photos").rename(home / "gone")
    table = write_table(tmp_path / "t.csv", [(f"train/{DARK}/3.png", "exclude", "")])
    try:
        code = main(["fix", str(run), str(table), "--out", str(tmp_path / "blind")])
        out, err = capsys.readouterr()
        assert code == (0 if name == "run" else 2) and "data.name=PLACE" in " ".join((out + err).split())
        code = main(["fix", str(run), str(table), "--overwrite", f"data.name={moved}"])
        assert code == 0, capsys.readouterr().err
    finally:
        gone.rename(home / "photos")
    fixed = read_run(RunFolder(tmp_path / f"{name}-fixed"))
    assert fixed.report["test"] and fixed.report["data"]["counts"]["test"] == 18 - (name == "run")
    record = read_record(fixed.folder.path)
    assert record is not None and record.place == str(moved)
