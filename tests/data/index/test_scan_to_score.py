"""The rows that `evaluate` asks for: by the names of a run's splits, whatever the dataset holds now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan, scan_named, scan_split
from hf_finetune.errors import DataError
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.own_rows import own_rows
from hf_finetune.result.split_record import write_record
from hf_finetune.types import Index
from tests.data.pictures import class_folders
from tests.data.store.samples import PREPROCESS

SIZES = {"a": 12, "b": 8, "c": 10}


def parquet(folder: Path) -> Path:
    images = [path.read_bytes() for path in sorted(class_folders(folder / "images", SIZES).rglob("*.*"))]
    table = pa.table({"image": images, "label": [str(number % 3) for number in range(len(images))]})
    pq.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def named(index: Index, config: Data, split: Any, *, only: bool) -> tuple[Index, list[str], list[str]]:
    names = {each: {row.name for row in rows} for each, rows in index.splits.items()}
    others = set().union(*(found for each, found in names.items() if each != split)) - names[split]
    return scan_named(config, split, names[split], others, only=only)


@pytest.mark.parametrize("kind", ["folder", "parquet", "digits"])
def test_the_rows_of_a_run_are_those_of_its_own_cut(kind: str, tmp_path: Path) -> None:
    """Under the same revision: rows without names, such as Parquet's, are taken for changed where it differs."""
    if kind == "digits":
        config = Data()
    else:
        place = parquet(tmp_path) if kind == "parquet" else class_folders(tmp_path / "images", SIZES)
        config = Data(name=str(place), test_share=0.2)
    index = scan(config, seed=3)
    for split in index.splits:
        found, new, out = named(index, config, split, only=True)
        assert (found.splits[split], found.revision) == (index.splits[split], index.revision)
        assert (out, len(new)) == ([], 0)


def test_a_given_split_is_scored_but_for_rows_that_were_another_s(tmp_path: Path) -> None:
    class_folders(tmp_path / "x" / "train", SIZES)
    class_folders(tmp_path / "x" / "test", SIZES, 100)
    config = Data(name=str(tmp_path / "x"), validation_share=0)
    index = scan(config, seed=0)
    found, new, out = named(index, config, "test", only=False)
    assert (found.splits["test"], found.revision, new, out) == (index.splits["test"], index.revision, [], [])
    taken = index.splits["test"][0].name
    names = {row.name for row in index.splits["test"]} - {taken}
    found, new, out = scan_named(config, "test", names, {taken}, only=False)
    assert ({row.name for row in found.splits["test"]}, new, out) == (names, [], [taken])
    found, new, out = scan_named(config, "test", names, set(), only=False)
    assert (len(found.splits["test"]), new, out) == (len(names) + 1, [taken], [])


def test_more_than_the_accepted_share_of_missing_files_is_refused_to_be_scored(tmp_path: Path) -> None:
    images = sorted(class_folders(tmp_path / "images", SIZES).rglob("*.*"))[:24]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["image,label", *(f"{path},a" for path in images)]), "utf-8")
    assert len(scan_split(Data(name=str(table)), "test").splits["test"]) == 24
    for path in images[1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"found 23 of 24: .*file not found"):
        scan_split(Data(name=str(table)), "test")
    index = scan_split(Data(name=str(table), max_bad_share=0.96), "test")
    assert (len(index.splits["test"]), len(index.rejected)) == (1, 23)


def test_rows_that_have_no_names_are_refused_once_they_changed(tmp_path: Path) -> None:
    """A Parquet file's rows are known by number: with one row less, every number means another image."""
    place = parquet(tmp_path)
    config = Data(name=str(place), test_share=0.2)
    write_record(tmp_path, scan(config, seed=0), config.name)
    told = (tmp_path / "adapter", config, manifest(), "test", 0)
    assert own_rows(*told, moved=False).same
    pq.write_table(pq.read_table(place).slice(1), place)
    with pytest.raises(DataError, match="its rows have no names of their own, only numbers") as refused:
        own_rows(*told, moved=False)
    assert refused.value.hint == "Put the data back as they were. Other images are scored with --data."


def manifest() -> Manifest:
    return Manifest("base", None, "", {"kind": "lora"}, "none", "fp32", ("head",), ("0", "1", "2"), PREPROCESS)
