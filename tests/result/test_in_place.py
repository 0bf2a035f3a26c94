"""A result takes its place whole, and what a person has put there stays."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.result.save import publish_locally


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_another_result_takes_the_place_and_a_persons_files_stay(tmp_path: Path) -> None:
    target = write(tmp_path / "adapter", config__json="old", notes__txt="mine", metrics__json="old")
    (target / "shots").mkdir()
    (target / "shots" / "1.png").write_text("mine too")
    staged = write(tmp_path / "adapter.staged", config__json="new")
    assert publish_locally(staged, target) == target
    assert texts(target) == {"config.json": "new", "notes.txt": "mine", "shots/1.png": "mine too"}
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_what_a_run_that_died_between_two_renames_left_is_taken_over(tmp_path: Path) -> None:
    write(tmp_path / "adapter.replaced", config__json="old", notes__txt="mine")
    target = tmp_path / "adapter"
    publish_locally(write(tmp_path / "adapter.staged", config__json="new"), target)
    assert texts(target) == {"config.json": "new", "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
