from __future__ import annotations

from pathlib import Path

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.duplicates import equal_rows
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources.readers import BytesReader, FileReader
from hf_finetune.data.sources.source import TAIL_BYTES, SourceRow
from tests.data.pictures import class_folders, put


def test_only_byte_equal_rows_are_grouped() -> None:
    tail = bytes(TAIL_BYTES)
    images = (
        b"a" * 9000, b"b" * 9000, b"a" * 9000, b"xx" + tail, b"yy" + tail, b"xx" + tail, b"short", b"short", b"", b"",
        b"a" * 8999,
    )  # fmt: skip
    rows = [SourceRow(str(n), "l", n, size=len(image)) for n, image in enumerate(images)]
    assert equal_rows(rows, BytesReader(images)) == [[0, 2], [3, 5], [6, 7]]


def test_one_file_listed_twice_is_a_duplicate_and_one_that_is_gone_is_none(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", 1)
    size = (tmp_path / "a.jpg").stat().st_size
    rows = [SourceRow("a", "x", str(tmp_path / name), size=size) for name in ("a.jpg", "gone.jpg", "a.jpg", "gone.jpg")]
    assert equal_rows(rows, FileReader()) == [[0, 2]]


def test_leaks_between_given_splits_and_contradictions_are_reported_and_nothing_is_moved(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2})
    for name, number in (("test/a/leak.jpg", 0), ("val/b/x.jpg", 1), ("train/a/twice.jpg", 2), ("train/b/c.jpg", 3)):
        put(tmp_path / name, number)
    found = scan(Data(name=str(tmp_path)), seed=0)
    assert tuple(map(str, found.notes)) == (
        "2 images found byte-equal in more than one split, so that scores are not quite on unseen images: "
        "train/a/0.jpg = "
        "test/a/leak.jpg (train, test); train/a/1.jpg = val/b/x.jpg (train, validation)",
        "2 images found under contradictory labels: train/a/1.jpg = val/b/x.jpg (a, b); train/a/3.jpg = "
        "train/b/c.jpg (a, b)",
    )
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 14, "validation": 5, "test": 5}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("given", [False, True])
def test_a_cut_leaks_nothing(tmp_path: Path, seed: int, given: bool) -> None:
    train = tmp_path / "train" if given else tmp_path
    class_folders(train, {"a": 30, "b": 30})
    for number in range(0, 60, 3):
        put(train / "ab"[number % 2] / f"copy of {number}.jpg", number)
    if given:
        class_folders(tmp_path / "val", {"a": 6, "b": 6}, first=100)
    found = scan(Data(name=str(tmp_path), test_split="val" if given else None), seed=seed)
    contents = [{found.reader.read(row.locator) for row in rows} for rows in found.splits.values()]
    assert all(not one & other for one in contents for other in contents if one is not other)
    assert [len(found.splits[split]) for split in ("validation", "test")] == [12, 12]
    assert not any("more than one split" in note for note in tuple(map(str, found.notes)))
