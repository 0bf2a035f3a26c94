"""Parquet files beside each other, and what their folder says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import jpeg, put
from tests.data.sources.scanning import WHOLE, index, notes, pictures, refusal, sizes


def parquet(path: Path, numbers: range, labels: list[Any], **more: list[Any]) -> None:
    images = [{"bytes": jpeg(n), "path": None} for n in numbers]
    pq.write_table(pa.table({"image": images, "label": labels, **more}), path)


def test_parquet_files_that_read_like_splits(tmp_path: Path) -> None:
    parquet(tmp_path / "beans_train.parquet", range(8), [0, 1] * 4)
    parquet(tmp_path / "beans_test.parquet", range(8, 12), [0, 1] * 2)
    assert sizes(index(tmp_path, validation_share=0)) == {"train": 8, "test": 4}


def test_another_parquet_file_beside_train_is_not_trained_on(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", range(8), [0, 1] * 4)
    parquet(tmp_path / "holdout.parquet", range(8, 12), [0, 1] * 2)
    found = index(tmp_path, **WHOLE)
    assert sizes(found) == {"train": 8}
    assert "splits not used: holdout (4 rows)" in notes(found)


def test_class_names_of_the_card_and_a_preview_picture(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", range(8), [0, 1] * 4)
    put(tmp_path / "assets/preview.jpg", 99)
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': cat\n          '1': dog\n---\n# Pets\n"
    )
    found = index(tmp_path, **WHOLE)
    assert found.labels.names == ("cat", "dog")
    assert "1 image beside Parquet files ignored" in notes(found)


@pytest.mark.parametrize("labels", [[-1.0, 1.0], [-1, 1]])
def test_labels_of_minus_one_and_one(tmp_path: Path, labels: list[float]) -> None:
    parquet(tmp_path / "t.parquet", range(8), labels * 4)
    assert index(tmp_path / "t.parquet", **WHOLE).labels.names == ("-1", "1")
    lines = [
        json.dumps({"file_name": name, "label": labels[n % 2]}) for n, name in enumerate(pictures(tmp_path, {"p": 8}))
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert index(tmp_path / "t.jsonl", **WHOLE).labels.names == ("-1", "1")


def test_whole_floats_are_classes(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet", range(8), [0.0, 1.0] * 4)
    found = index(tmp_path / "t.parquet", **WHOLE)
    assert found.labels.names == ("0", "1")


def test_a_split_column_of_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet", range(8), [0, 1] * 4, subset=["train"] * 6 + ["test"] * 2)
    assert sizes(index(tmp_path / "t.parquet", validation_share=0)) == {"train": 6, "test": 2}


def test_a_test_file_without_labels_is_not_used(tmp_path: Path) -> None:
    images = [{"bytes": jpeg(n), "path": None} for n in range(20, 24)]
    pq.write_table(pa.table({"image": images}), tmp_path / "test.parquet")
    parquet(tmp_path / "train.parquet", range(8), [0, 1] * 4)
    found = index(tmp_path, **WHOLE)
    assert sizes(found) == {"train": 8}
    assert "split test is not used: none of its 4 rows has a label" in notes(found)


def test_a_file_with_other_columns_can_be_left_out_as_the_error_says(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", range(8), [0, 1] * 4)
    images = [{"bytes": jpeg(n), "path": None} for n in range(20, 24)]
    pq.write_table(pa.table({"picture": images, "label": [0, 1, 0, 1]}), tmp_path / "test.parquet")
    assert "leave its split out by data.ignore_splits" in refusal(tmp_path)
    found = index(tmp_path, ignore_splits=("test",), **WHOLE)
    assert sizes(found) == {"train": 8}
    assert "splits not used: test (4 rows), by data.ignore_splits" in notes(found)
    assert [found.reader.read(row.locator) for row in found.splits["train"]] == [jpeg(n) for n in range(8)]


@pytest.mark.parametrize("blank", ["", None])
def test_blanks_beside_a_marked_test_are_for_training(tmp_path: Path, blank: str | None) -> None:
    parquet(tmp_path / "t.parquet", range(12), [0, 1] * 6, split=[blank] * 8 + ["test"] * 4)
    assert sizes(index(tmp_path / "t.parquet", validation_share=0)) == {"train": 8, "test": 4}
    parquet(tmp_path / "u.parquet", range(12), [0, 1] * 6, split=[blank] * 2 + ["train"] * 6 + ["test"] * 4)
    found = index(tmp_path / "u.parquet", validation_share=0, max_bad_share=0.5)
    assert [row.reason for row in found.rejected] == ["no split"] * 2
