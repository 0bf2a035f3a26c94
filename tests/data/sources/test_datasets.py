"""`index_of`: what a notebook has at hand."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import index_of
from hf_finetune.data.sources import in_memory as memory
from hf_finetune.data.sources.readers import ArrowReader, BytesReader, SpoolReader
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import class_folders, jpeg, read_all

WHOLE = {"test_share": 0, "validation_share": 0}
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])})


def index(data: object, **fields: Any) -> Index:
    return index_of(data, Data(**fields), seed=0)


def refusal(data: object, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(data, **fields)
    return str(caught.value)


def in_memory(numbers: range, label: str = "label") -> datasets.Dataset:
    rows = {"image": [{"bytes": jpeg(n), "path": None} for n in numbers], label: [n % 2 for n in numbers]}
    return datasets.Dataset.from_dict(
        rows, features=datasets.Features({"image": datasets.Image(), label: FEATURES["label"]})
    )


def on_disk(folder: Path, numbers: range) -> datasets.Dataset:
    in_memory(numbers).save_to_disk(str(folder))
    loaded = datasets.load_from_disk(str(folder))
    assert isinstance(loaded, datasets.Dataset)
    return loaded


def read_in_new_process(found: Index, split: str) -> list[bytes]:
    rows = found.splits[split]  # type: ignore[index]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(read_all, (found.reader, rows))


@pytest.mark.e2e
def test_a_mapped_dataset_is_read_from_its_files_in_a_new_process(tmp_path: Path) -> None:
    found = index(on_disk(tmp_path / "d", range(20)), **WHOLE)
    assert isinstance(found.reader, ArrowReader)
    assert found.labels.names == ("zebra", "ant")
    assert found.splits["train"][3].name == "train row 3"
    assert read_in_new_process(found, "train") == [jpeg(n) for n in range(20)]
    assert len(pickle.dumps(found.reader)) < 1000


@pytest.mark.e2e
def test_a_reader_of_arrow_files_needs_no_datasets(tmp_path: Path) -> None:
    found = index(on_disk(tmp_path / "d", range(6)), **WHOLE)
    (tmp_path / "reader").write_bytes(pickle.dumps(found.reader))
    code = f"""
import pickle, sys
reader = pickle.load(open({str(tmp_path / "reader")!r}, "rb"))
assert reader.read(5)[:2] == bytes([255, 216])
assert not {{"torch", "datasets", "pandas"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


def test_shuffled_and_selected_rows_are_read_from_the_same_files(tmp_path: Path) -> None:
    data = on_disk(tmp_path / "d", range(20)).shuffle(seed=1).select([4, 2, 9, 11, 0, 1])
    found = index(data, **WHOLE)
    assert isinstance(found.reader, ArrowReader)
    assert read_all(found.reader, found.splits["train"]) == [row["bytes"] for row in
        data.cast_column("image", datasets.Image(decode=False))["image"]]  # fmt: skip
    assert [row.label for row in found.splits["train"]] == data["label"][:]


def test_splits_of_a_dataset_dict_are_kept(tmp_path: Path) -> None:
    found = index(
        datasets.DatasetDict(
            {"train": on_disk(tmp_path / "a", range(12)), "validation": on_disk(tmp_path / "b", range(20, 26))}
        ),
        test_share=0,
    )
    assert found.cut == ()
    assert isinstance(found.reader, ArrowReader)
    assert read_all(found.reader, found.splits["validation"]) == [jpeg(n) for n in range(20, 26)]


@pytest.mark.parametrize("change", ["slice", "renamed", "added column", "concatenated", "mapped"])
def test_what_its_files_do_not_show_is_read_all_the_same(tmp_path: Path, change: str) -> None:
    data = on_disk(tmp_path / "d", range(12))
    expected = [jpeg(n) for n in range(12)]
    if change == "slice":
        data, expected = data.select(range(4, 10)), expected[4:10]
    elif change == "renamed":
        data = data.rename_column("image", "photo").rename_column("label", "kind")
    elif change == "added column":
        data = data.add_column("note", ["x"] * 12)  # type: ignore[call-arg]
    elif change == "concatenated":
        data = datasets.concatenate_datasets([data, in_memory(range(50, 54))])
        expected += [jpeg(n) for n in range(50, 54)]
    else:
        data = data.map(lambda _, n: {"image": {"bytes": jpeg(100 + n), "path": None}}, with_indices=True)
        expected = [jpeg(100 + n) for n in range(12)]
    found = index(data, **WHOLE)
    assert read_all(found.reader, found.splits["train"]) == expected


@pytest.mark.e2e
def test_images_in_memory_are_encoded_once_and_travel_with_the_reader() -> None:
    images = [Image.fromarray(np.full((4, 4, 3), n, dtype=np.uint8)) for n in range(8)]
    found = index(datasets.Dataset.from_dict({"img": images, "label": ["a", "b"] * 4}), **WHOLE)
    assert isinstance(found.reader, BytesReader)
    assert found.labels.names == ("a", "b")
    assert all(data.startswith(b"\x89PNG") for data in read_in_new_process(found, "train"))


@pytest.mark.e2e
def test_images_too_large_for_memory_are_spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMORY_LIMIT_BYTES", 3000)
    found = index(in_memory(range(10)), cache_dir=str(tmp_path / "cache"), **WHOLE)
    assert isinstance(found.reader, SpoolReader)
    assert read_in_new_process(found, "train") == [jpeg(n) for n in range(10)]
    assert [path.parent for path in tmp_path.rglob("hf_finetune-images-*")] == [tmp_path / "cache"]


@pytest.mark.e2e
def test_the_spool_is_removed_when_its_process_ends(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from hf_finetune.data.sources.in_memory import MEMORY_LIMIT_BYTES, keep
reader = keep((b"x" * (MEMORY_LIMIT_BYTES // 2 + n) for n in range(4)), {str(tmp_path)!r})
assert len(list(Path({str(tmp_path)!r}).iterdir())) == 1
assert len(reader.read(3)) == MEMORY_LIMIT_BYTES // 2 + 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    assert list(tmp_path.iterdir()) == []


def test_image_files_of_a_dataset_are_read_where_they_are(tmp_path: Path) -> None:
    class_folders(tmp_path / "d", {"a": 4, "b": 4})
    paths = sorted(str(path) for path in (tmp_path / "d").rglob("*.jpg"))
    data = datasets.Dataset.from_dict({"image": [*paths, str(tmp_path / "gone.jpg")], "label": [0] * 4 + [1] * 5})
    found = index(data.cast_column("image", datasets.Image()), max_bad_share=0.2, **WHOLE)
    assert [row.locator for row in found.splits["train"]] == paths
    assert read_all(found.reader, found.splits["train"]) == [Path(path).read_bytes() for path in paths]
    assert [(row.name, row.reason) for row in found.rejected] == [
        (f"train row 8 ({tmp_path / 'gone.jpg'})", "file not found")
    ]


def test_rows_without_image_or_label_are_rejected() -> None:
    data = datasets.Dataset.from_dict(
        {"image": [jpeg(0), None, jpeg(2), jpeg(3)], "label": [0, 1, 1, None]}, features=FEATURES
    )
    found = index(data, max_bad_share=0.9, **WHOLE)
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("train row 1", "no image"),
        ("train row 3", "no label"),
    ]


def test_a_formatted_dataset_is_indexed_the_same(tmp_path: Path) -> None:
    data = on_disk(tmp_path / "d", range(12))
    plain = index(data, **WHOLE)
    formatted = index(data.with_format("numpy"), **WHOLE)
    assert formatted.splits == plain.splits


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (datasets.Dataset.from_dict({"text": ["a"], "label": [0]}),
         "data.image_column: no column of a dataset in memory could be told to be the image column, found text (text), "
         "label (whole number)\n  set data.image_column to the one to use"),
        (np.zeros(3), "data: a datasets.Dataset or DatasetDict, a torch dataset, a folder, or a list of (path, label) "
         "pairs or paths is expected, found numpy.ndarray\n"
         "  save the images into class folders, or list their paths and labels"),
        (datasets.DatasetDict(), "data: at least one split is expected, found an empty DatasetDict\n"
         "  give a split to train on"),
        (datasets.Dataset.from_dict({"image": ["a"]}).to_iterable_dataset(),
         "data: a dataset with known rows is expected, found a streaming dataset\n  load it without streaming=True"),
        ([], "data: images are expected, found an empty list\n  give (path, label) pairs or paths"),
        ([("a.jpg", "x"), 3], "data: (path, label) pairs or paths are expected, found 3 at position 1\n"
         "  give a path, or a pair of a path and a class name or number"),
    ],
)  # fmt: skip
def test_other_data_is_refused(data: object, text: str) -> None:
    assert refusal(data, max_bad_share=0.9) == text


def test_splits_with_other_classes_are_refused() -> None:
    other = in_memory(range(4)).cast_column("label", datasets.ClassLabel(names=["ant", "zebra"]))
    assert refusal(datasets.DatasetDict({"train": in_memory(range(6)), "test": other})).startswith(
        "data.label_column: the same classes in the same order are expected in every split of a dataset in "
        "memory, found "
        "others in test\n"
    )


def test_a_list_of_pairs_and_a_list_of_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    monkeypatch.chdir(tmp_path)
    paths = [f"a/{n}.jpg" for n in range(4)] + [f"b/{n}.jpg" for n in range(4, 8)]
    pairs = index(list(zip(paths, np.arange(8) % 2, strict=True)), **WHOLE)
    assert pairs.labels.names == ("0", "1")
    assert [row.label for row in pairs.splits["train"]] == [0, 1] * 4
    assert [row.name for row in pairs.splits["train"]] == paths
    by_folder = index([Path(path) for path in paths], **WHOLE)
    assert by_folder.labels.names == ("a", "b")
    monkeypatch.chdir("/")
    assert by_folder.reader.read(by_folder.splits["train"][5].locator) == jpeg(5)


def test_a_folder_does(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    assert len(index(tmp_path, **WHOLE).splits["train"]) == 8
    assert len(index(str(tmp_path), **WHOLE).splits["train"]) == 8


def test_an_ignored_split_need_not_have_the_columns_of_train() -> None:
    image, other = [{"bytes": jpeg(n), "path": None} for n in range(8)], [{"bytes": jpeg(9), "path": None}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    train = datasets.Dataset.from_dict({"image": image, "label": [0, 1] * 4}, features=features)
    test = datasets.Dataset.from_dict({"image": other}, features=datasets.Features({"image": datasets.Image()}))
    both = datasets.DatasetDict({"train": train, "test": test})
    config = Data(ignore_splits=("test",), validation_share=0, test_share=0)
    found = index_of(both, config, seed=0)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 8, "validation": 0, "test": 0}
    assert "splits not used: test (1 row), by data.ignore_splits" in list(map(str, found.notes))


@pytest.mark.parametrize("splits", [["0"] * 6 + ["1"] * 2, [0] * 6 + [1] * 2, [None] * 6 + ["test"] * 2])
def test_a_column_of_splits_may_hold_numbers_or_blanks(splits: list[Any]) -> None:
    image = [{"bytes": jpeg(n), "path": None} for n in range(8)]
    data = datasets.Dataset.from_dict({"image": image, "label": [0, 1] * 4, "part": splits})
    data = data.cast_column("image", datasets.Image())
    names = {} if None in splits else {"train_split": "0", "test_split": "1"}
    found = index_of(data, Data(split_column="part", validation_share=0, **names), seed=0)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 6, "validation": 0, "test": 2}
