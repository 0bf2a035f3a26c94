"""What every file of the project keeps to: its length, nothing unfinished, nothing of the machine it was written on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
FOLDERS = ("hf_finetune", "tests", "recipes", "accelerate_configs", "benchmarks", "docs")
TEXT = {".py", ".yaml", ".yml", ".md", ".toml", ".txt", ".json", ".csv", ".cfg", ""}
LONGEST = 350
# Written in pieces, so that this file does not hold what it looks for.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImpl" + r"ementedError)\b")
OF_A_MACHINE = re.compile(r"(?<![\w.~-])/(wo" + r"rk|op" + r"t/venv|tm" + r"p|ro" + r"ot)(/|\b)")
SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{30,}|ghp_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b")


def texts() -> Iterator[tuple[str, str]]:
    """(path below the repo, content) of every text file of the project."""
    files = [path for path in REPO.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += (REPO / folder).rglob("*")
    for path in sorted(files):
        if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts and path.name != ".git":
            yield path.relative_to(REPO).as_posix(), path.read_text(encoding="utf-8")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_source_file_is_longer_than_one_can_read() -> None:
    lengths = {name: len(text.splitlines()) for name, text in texts() if name.endswith(".py")}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED) == []


def test_no_path_of_the_machine_it_was_written_on_is_left() -> None:
    assert lines_with(OF_A_MACHINE) == []


def test_no_secret_is_left() -> None:
    assert lines_with(SECRET) == []


def test_no_folder_is_called_by_a_name_that_says_nothing() -> None:
    names = {path.stem for path in (REPO / "hf_finetune").rglob("*")}
    assert names & {"utils", "util", "helpers", "helper", "manager", "common", "misc"} == set()


def test_the_licence_and_the_changelog_are_there() -> None:
    assert "Apache License" in (REPO / "LICENSE").read_text(encoding="utf-8")[:200]
    assert "## [Unreleased]" in (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
