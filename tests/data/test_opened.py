"""Some images are opened when a recipe is checked, and the broken ones named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_finetune.cli import main
from hf_finetune.data.opened import MOST, open_some
from tests.data.pictures import class_folders
from tests.data.sources.scanning import WHOLE, index


def test_they_are_spread_over_all_splits(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 50, "train/b": 50, "test/a": 30, "test/b": 30})
    for number, path in enumerate(sorted(tmp_path.rglob("*.jpg"))):
        path.write_bytes(b"broken %d" % number)
    found = open_some(index(tmp_path, **WHOLE), 10_000)
    assert (found.tried, found.of, len(found.broken)) == (MOST, 160, MOST)
    assert [sum(row.split == split for row in found.broken) for split in ("train", "test")] == [20, 12]


def test_all_of_a_few_are_opened(tmp_path: Path) -> None:
    found = open_some(index(class_folders(tmp_path, {"a": 5, "b": 5}), **WHOLE), 10_000)
    assert (found.tried, found.of, found.broken) == (10, 10, ())
    assert str(found) == "10 of 10 images, spread over all: they can be read"


def test_check_names_the_broken_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path / "photos", {"a": 10, "b": 10})
    first = min((tmp_path / "photos").rglob("*.jpg"))
    first.write_bytes(b"no image")
    line = ["check", f"data.name={tmp_path / 'photos'}", "model.name=builtin:starter", f"output.dir={tmp_path / 'run'}"]
    assert main(line) == 0
    said = " ".join(capsys.readouterr().out.replace("\n#", " ").split())
    assert f"opened 20 of 20 images, spread over all: 1 cannot be read (a/{first.name}: " in said
    assert main([*line, "--json"]) == 0
    opened = json.loads(capsys.readouterr().out)["data"]["opened"]
    assert (opened["tried"], opened["of"]) == (20, 20)
    assert [row["name"] for row in opened["broken"]] == [f"a/{first.name}"]
