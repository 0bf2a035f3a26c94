from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources import readers
from hf_finetune.data.sources.readers import ParquetReader
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import jpeg, put

WHOLE = {"test_share": 0, "validation_share": 0}


def index(path: Path, **fields: Any) -> Index:
    return scan(Data(name=str(path), **fields), seed=0)


def refusal(path: Path, root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(path, **fields)
    return str(caught.value).replace(str(root), "ROOT")


def write(
    path: Path, numbers: Sequence[int], labels: object, *, names: Sequence[str] | None = None, group: int = 4
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in numbers]
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return path


def test_encoded_images_are_read_by_row_number(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", range(10), ["b", "a"] * 5)
    found = index(path, **WHOLE)
    assert found.labels.names == ("a", "b")
    assert found.splits["train"][7].name == "t.parquet row 7"
    reader = pickle.loads(pickle.dumps(found.reader))
    for number in (7, 0, 9, 3, 4, 8):
        assert reader.read(found.splits["train"][number].locator) == jpeg(number)


def test_a_binary_column_and_an_int_column_do(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"jpg": [jpeg(n) for n in range(6)], "target": [3, 11, 3, 11, 3, 11]}), path)
    found = index(path, **WHOLE)
    assert found.labels.names == ("3", "11")
    assert [row.label for row in found.splits["train"]] == [0, 1, 0, 1, 0, 1]


def test_text_labels_stay_text_and_true_and_false_are_names(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    written = ["n/a", "null", "1", "True"]
    pq.write_table(pa.table({"jpg": [jpeg(n) for n in range(4)], "label": written}), path)
    assert [index(path, **WHOLE).labels.names[row.label] for row in index(path, **WHOLE).splits["train"]] == written
    pq.write_table(pa.table({"jpg": [jpeg(n) for n in range(4)], "label": [True, False, True, False]}), path)
    assert index(path, **WHOLE).labels.names == ("False", "True")


def test_dictionary_encoded_labels_do(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    labels = pa.array(["dog", "cat", "dog", "cat"]).dictionary_encode()
    pq.write_table(pa.table({"jpg": [jpeg(n) for n in range(4)], "label": labels}), path)
    assert index(path, **WHOLE).labels.names == ("cat", "dog")


def test_class_label_order_is_kept_and_missing_labels_are_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", range(8), [2, 0, 2, 0, -1, None, 9, 2], names=("zebra", "ant", "cow"))
    found = index(path, max_bad_share=0.9, **WHOLE)
    assert found.labels.names == ("zebra", "ant", "cow")
    assert [row.label for row in found.splits["train"]] == [2, 0, 2, 0, 2]
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("t.parquet row 4", "no label"),
        ("t.parquet row 5", "no label"),
        ("t.parquet row 6", "label 9 is outside the 3 classes of the dataset"),
    ]
    assert "no row at all of 1 class: ant" in tuple(map(str, found.notes))


def test_rows_without_an_image_are_rejected_and_paths_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "img/5.jpg", 5)
    held = [(jpeg(0), None), (None, "img/5.jpg"), (None, "gone.jpg"), (b"", None)]
    images = [*({"bytes": data, "path": path} for data, path in held), None]
    pq.write_table(pa.table({"image": images, "label": ["a", "b", "a", "b", "a"]}), tmp_path / "t.parquet")
    found = index(tmp_path / "t.parquet", max_bad_share=0.9, **WHOLE)
    assert [found.reader.read(row.locator) for row in found.splits["train"]] == [jpeg(0), jpeg(5)]
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("t.parquet row 2 (gone.jpg)", "file not found"),
        ("t.parquet row 3", "no image"),
        ("t.parquet row 4", "no image"),
    ]


def test_a_split_column_gives_the_splits(tmp_path: Path) -> None:
    splits = ["train"] * 6 + ["test"] * 2 + [None]
    table = {"image": [jpeg(n) for n in range(9)], "label": ["a", "b", "c"] * 3, "split": splits}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"found 1 of 9: t\.parquet row 8: no split"):
        index(tmp_path / "t.parquet")
    found = index(tmp_path / "t.parquet", max_bad_share=0.2)
    assert len(found.splits["test"]) == 2
    assert found.cut == ("validation",)


def test_the_hubs_layout_gives_splits_by_file_name(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", range(6), [0, 1] * 3, names=("b", "a"))
    write(tmp_path / "data/train-00001-of-00002.parquet", range(6, 12), [0, 1] * 3, names=("b", "a"))
    write(tmp_path / "data/validation-00000-of-00001-abc123.parquet", range(20, 22), [0, 1], names=("b", "a"))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    found = index(tmp_path, test_share=0)
    assert found.labels.names == ("b", "a")
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 12, "validation": 2, "test": 0}
    row = found.splits["train"][8]
    assert row.name == "data/train-00001-of-00002.parquet row 2"
    assert found.reader.read(row.locator) == jpeg(8)
    assert found.reader.read(found.splits["validation"][1].locator) == jpeg(21)


def test_configurations_in_folders_need_a_choice(tmp_path: Path) -> None:
    for config, first in (("small", 0), ("large", 50)):
        write(tmp_path / f"{config}/train/0000.parquet", range(first, first + 6), ["a", "b"] * 3)
        write(tmp_path / f"{config}/test/0000.parquet", range(first + 10, first + 14), ["a", "b"] * 2)
    assert refusal(tmp_path, tmp_path) == (
        "data.config: one configuration is expected in ROOT, found large, small\n  set data.config to one of these"
    )
    assert refusal(tmp_path, tmp_path, config="big").startswith(
        "data.config: ROOT has no configuration 'big', found large"
    )
    found = index(tmp_path, config="large")
    assert found.reader.read(found.splits["test"][0].locator) == jpeg(60)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.parquet", range(4), [0, 1] * 2, names=("a", "b"))
    write(tmp_path / "test-00000-of-00001.parquet", range(4, 8), [0, 1] * 2, names=("b", "a"))
    assert refusal(tmp_path, tmp_path).startswith(
        "data.name: the same columns and classes are expected in every file, found others in ROOT/train-00000-of-00001"
    )


def test_columns_are_found_by_type_then_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    two = {"image": [jpeg(n) for n in range(4)], "mask": [jpeg(n + 9) for n in range(4)]}
    features = {"coarse_label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    features |= {"fine_label": {"names": ["p", "q"], "_type": "ClassLabel"}}
    table = pa.table({**two, "coarse_label": [0, 1, 0, 1], "fine_label": [0, 0, 1, 1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    assert index(path, **WHOLE).labels.names == ("p", "q")
    assert index(path, label_column="coarse_label", **WHOLE).labels.names == ("x", "y")
    pq.write_table(
        pa.table({"left": two["image"], "right": two["mask"], "label": [0, 1, 0, 1], "area": [0.5] * 4}), path
    )
    assert refusal(path, tmp_path) == (
        "data.image_column: one image column is expected in ROOT/t.parquet, found left and right among left (image), "
        "right (image), label (whole number), area (number)\n  set data.image_column to the one to use"
    )
    assert refusal(path, tmp_path, image_column="area").startswith(
        "data.image_column: encoded images or paths are expected in column 'area' of ROOT/t.parquet, found left (image)"
    )


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1 not really")
    assert refusal(path, tmp_path).startswith(
        "data.name: a Parquet file is expected, found ROOT/bad.parquet: Parquet magic"
    )


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.parquet", range(60), ["a", "b"] * 30, group=60)
    monkeypatch.setattr(readers, "GROUP_LIMIT_BYTES", 10_000)
    monkeypatch.setattr(readers, "PIECE_BYTES", 5_000)
    meta = pq.ParquetFile(path).metadata.row_group(0)
    rows, size = readers.group_batch_rows(meta, "image")
    assert size > 10_000
    assert 1 <= rows < 20
    reader = readers.ParquetReader((str(path),), "image")
    for number in (0, 59, 58, 3, 30, 31, 2):
        assert reader.read(number) == jpeg(number)


def test_large_row_groups_are_noted(tmp_path: Path) -> None:
    blob = bytes(1_000_000)
    rows = [jpeg(number) + blob[: 999_000 + number] for number in range(70)]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": rows, "label": [0, 1] * 35}), path, use_dictionary=False, row_group_size=70)
    found = index(path, **WHOLE)
    assert tuple(map(str, found.notes)) == (
        "a Parquet file has 1 row group of up to 70 MB, fast in order only; for reading in random order write it with "
        "about 64 MB a row group: t.parquet",
    )
    assert found.reader.read(69) == rows[69]


def test_threads_that_read_one_file_each_get_their_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "GROUP_LIMIT_BYTES", 3_000)  # in pieces
    images = [{"bytes": f"row {number}".encode() * 50, "path": None} for number in range(400)]
    pq.write_table(pa.table({"image": images}), tmp_path / "images.parquet", row_group_size=400)
    reader = pickle.loads(pickle.dumps(ParquetReader((str(tmp_path / "images.parquet"),), "image")))
    numbers = np.random.default_rng(0).integers(0, 400, 4_000).tolist()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(reader.read, numbers))
    assert found == [images[number]["bytes"] for number in numbers]
