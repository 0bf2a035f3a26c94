"""What is read out of folders and tables as people have them: splits under any name, tables beside folders, numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import class_folders, jpeg, put

WHOLE = {"test_share": 0, "validation_share": 0}


def index(root: Path, **fields: Any) -> Index:
    return scan(Data(name=str(root), **fields), seed=0)


def refusal(root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(root, **fields)
    return str(caught.value).replace(str(root), "ROOT")


def sizes(found: Index) -> dict[str, int]:
    return {split: len(rows) for split, rows in found.splits.items() if rows}


def notes(found: Index) -> str:
    return "\n".join(map(str, found.notes))


def table(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


# Split folders


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("TrainSet", "TestSet"),
        ("train2017", "test2017"),
        ("pets_train", "pets_test"),
        ("train", "test_data"),
        ("train/train", "test/test"),
        ("training_set/training_set", "test_set/test_set"),
    ],
)
def test_split_folders_under_names_that_read_like_splits(tmp_path: Path, train: str, test: str) -> None:
    root = class_folders(tmp_path, {f"{train}/cats": 5, f"{train}/dogs": 5, f"{test}/cats": 2, f"{test}/dogs": 3})
    found = index(root, validation_share=0)
    assert found.labels.names == ("cats", "dogs")
    assert sizes(found) == {"train": 10, "test": 5}
    assert all(row.name.startswith(train.partition("/")[0]) for row in found.splits["train"])


def test_a_split_of_bare_images_beside_split_folders_is_not_used(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"seg_train/seg_train/sea": 5, "seg_train/seg_train/street": 5,
                                    "seg_test/seg_test/sea": 2, "seg_test/seg_test/street": 2,
                                    "seg_pred/seg_pred": 4})  # fmt: skip
    found = index(root, validation_share=0)
    assert sizes(found) == {"train": 10, "test": 4}
    assert "images ignored that are in no split folder: seg_pred (4 images)" in notes(found)


def test_splits_inside_the_class_folders(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cats/train": 6, "cats/test": 2, "dogs/train": 5, "dogs/test": 3})
    found = index(root, validation_share=0)
    assert found.labels.names == ("cats", "dogs")
    assert sizes(found) == {"train": 11, "test": 5}


@pytest.mark.parametrize("names", [("fold_1", "fold_2", "fold_3"), ("site_a", "site_b"), ("cats", "dogs")])
def test_shared_folders_under_other_names_are_a_question_with_answers(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = class_folders(tmp_path, {f"{top}/{sub}": 5 for top in names for sub in ("left", "right")})
    text = refusal(root)
    assert text == (
        f"data.class_level: folders that tell the classes are expected below ROOT, found {', '.join(names)}, which "
        "hold folders of the same names: left, right\n"
        f"  set data.class_level=1 if the classes are {', '.join(names)}; or data.class_level=2 if the classes are "
        f"left, right; or data.train_split={names[0]} data.test_split={names[1]} if {names[0]} and {names[1]} are "
        "splits"
    )
    assert index(root, class_level=1).labels.names == names
    joined = index(root, class_level=2, **WHOLE)
    assert joined.labels.names == ("left", "right")
    assert sizes(joined) == {"train": 10 * len(names)}
    given = index(root, train_split=names[0], test_split=names[1], validation_share=0)
    assert sizes(given) == {"train": 10, "test": 10}


def test_a_question_never_proposes_to_train_on_the_test(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", {f"{top}/{sub}": 2 for top in ("holdout_test", "site") for sub in "xy"})
    assert "data.train_split=site data.test_split=holdout_test" in refusal(root)
    only = class_folders(tmp_path / "b", {"test_set/x": 2, "test_set/y": 2}, first=50)
    assert "did you mean data.name=ROOT/test_set" not in refusal(only)
    beside = class_folders(tmp_path / "c", {"cats": 2, "dogs": 2, "test/cats": 2, "test/dogs": 2}, first=90)
    assert "data.train_split=test" not in refusal(beside)
    assert "data.ignore_splits=[test] to leave it out" in refusal(beside)
    assert sizes(index(beside, ignore_splits=("test",), **WHOLE)) == {"train": 4}


def test_one_shared_folder_leaves_the_classes(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cats/images": 5, "dogs/images": 5})
    assert index(root).labels.names == ("cats", "dogs")


def test_a_test_folder_is_kept_apart_where_other_folders_are_joined(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {f"{top}/{sub}": 4 for top in ("fold_1", "fold_2", "test") for sub in "xy"})
    found = index(root, class_level=2, validation_share=0)
    assert sizes(found) == {"train": 16, "test": 8}


def test_a_level_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"a": 3, "b": 3})
    assert refusal(root, class_level=3) == (
        "data.class_level: images in folders at least 3 levels below ROOT are expected, found images at most 1 level "
        "below it\n  set data.class_level to 1 at most, or to null"
    )


def test_a_given_split_can_be_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"train/a": 10, "train/b": 10, "test/a": 2, "test/b": 2})
    found = index(root, ignore_splits=("Test",), validation_share=0, test_share=0.2)
    assert sizes(found) == {"train": 16, "test": 4}
    assert all(row.name.startswith("train/") for row in found.splits["test"])
    assert "splits not used: test (4 rows), by data.ignore_splits" in notes(found)
    assert refusal(root, ignore_splits=("tset",)).startswith("data.ignore_splits: ROOT has no split 'tset', found")
    assert refusal(root, ignore_splits=("test",), test_split="test").startswith(
        "data.ignore_splits: splits that no other key names are expected, found 'test', which data.test_split names"
    )


# Tables


def pictures(root: Path, folders: Mapping[str, int]) -> list[str]:
    class_folders(root, folders)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_above_split_folders_keeps_the_splits(tmp_path: Path, suffix: str) -> None:
    names = pictures(tmp_path, {"train": 16, "test": 8})
    if suffix == "csv":
        table(
            tmp_path / "metadata.csv", [("file_name", "label"), *((name, "ab"[n % 2]) for n, name in enumerate(names))]
        )
    else:
        lines = [json.dumps({"file_name": name, "label": "ab"[n % 2]}) for n, name in enumerate(names)]
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found = index(tmp_path, validation_share=0)
    assert sizes(found) == {"train": 16, "test": 8}
    assert all(row.name.startswith("test/") for row in found.splits["test"])
    assert "splits from the folders test, train" in found.layout


def test_headers_lose_their_blanks_and_labels_keep_them(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 12})
    rows = [(name, " dark" if n % 2 else "light", " test" if n > 7 else " train") for n, name in enumerate(names)]
    found = index(table(tmp_path / "t.csv", [("file_name ", " label", " split"), *rows]), validation_share=0)
    assert found.labels.names == (" dark", "light")
    assert sizes(found) == {"train": 8, "test": 4}


@pytest.mark.parametrize("column", ["set", "Subset", "partition", "phase", "Usage"])
def test_split_columns_under_other_names(tmp_path: Path, column: str) -> None:
    names = pictures(tmp_path, {"p": 12})
    rows = [
        (name, "ab"[n % 2], "Training" if n < 8 else "PublicTest" if n < 10 else "test") for n, name in enumerate(names)
    ]
    path = table(tmp_path / "t.csv", [("file_name", "label", column), *rows])
    found = index(path, validation_share=0)
    assert sizes(found) == {"train": 8, "test": 2}
    assert "splits not used: PublicTest (2 rows)" in notes(found)
    assert f"splits from {column!r}" in found.layout


def test_a_fold_column_is_named_and_can_be_used(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 12})
    path = table(
        tmp_path / "t.csv", [("file_name", "label", "fold"), *((n, "ab"[i % 2], i // 6) for i, n in enumerate(names))]
    )
    assert "column 'fold' is not used as the split, since none of its values reads like train" in notes(
        index(path, **WHOLE)
    )
    found = index(path, split_column="fold", train_split="0", test_split="1", validation_share=0)
    assert sizes(found) == {"train": 6, "test": 6}


def test_several_tables_are_the_splits(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"images": 14})
    for split, part in (("train", names[:8]), ("val", names[8:10]), ("test", names[10:])):
        table(
            tmp_path / f"{split}.csv", [("file_name", "label"), *((name, "ab"[n % 2]) for n, name in enumerate(part))]
        )
    assert sizes(index(tmp_path)) == {"train": 8, "validation": 2, "test": 4}
    alone = index(tmp_path / "train.csv", **WHOLE)
    assert sizes(alone) == {"train": 8}
    assert "their folder as data.name reads them all: test.csv, val.csv" in notes(alone)
    assert sizes(index(tmp_path, ignore_splits=("test",), test_share=0)) == {"train": 8, "validation": 2}


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
@pytest.mark.parametrize("column", ["diagnosis", "label"])
def test_labels_in_a_table_and_images_in_several_folders(tmp_path: Path, name: str, column: str) -> None:
    names = pictures(tmp_path, {"part_1": 6, "part_2": 6})
    table(tmp_path / name, [("file_name", column), *((each, "ab"[n % 2]) for n, each in enumerate(names))])
    found = index(tmp_path, **WHOLE)
    assert found.labels.names == ("a", "b")
    assert sizes(found) == {"train": 12}


def test_a_table_and_class_folders_that_disagree_are_a_question(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"cats": 6, "dogs": 6})
    table(
        tmp_path / "metadata.csv",
        [("file_name", "photographer"), *((each, "xy"[n % 2]) for n, each in enumerate(names))],
    )
    assert refusal(tmp_path) == (
        "data.label_column: either a table or the folders tell the classes of ROOT, found column 'photographer' of "
        "metadata.csv with x, y, and the folders cats, dogs\n"
        "  set data.label_column=photographer; or data.class_level=1 if the folders are the classes"
    )
    assert index(tmp_path, label_column="photographer").labels.names == ("x", "y")
    assert index(tmp_path, class_level=1).labels.names == ("cats", "dogs")


def test_pictures_without_a_row_are_noted(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 6})
    table(
        tmp_path / "metadata.csv", [("file_name", "label"), *((each, "ab"[n % 2]) for n, each in enumerate(names[:4]))]
    )
    found = index(tmp_path, **WHOLE)
    assert f"2 images ignored that no row of the table names: {names[4]}, {names[5]}" in notes(found)


def test_a_table_without_header_is_refused(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 4})
    path = table(tmp_path / "t.csv", [(name, "ab"[n % 2]) for n, name in enumerate(names)])
    assert refusal(path) == (
        f"data.name: column names are expected in the first line of ROOT, found the image {names[0]}\n"
        "  put a line such as file_name,label above it"
    )


def test_y_beside_x_is_a_question(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 4})
    path = table(
        tmp_path / "t.csv", [("file_name", "x", "y"), *((name, 3, "ab"[n % 2]) for n, name in enumerate(names))]
    )
    assert "one label column is expected in ROOT, found x and y" in refusal(path)
    assert index(path, label_column="y", **WHOLE).labels.names == ("a", "b")


def test_an_index_column_of_pandas_is_no_label(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 4})
    path = table(
        tmp_path / "t.csv", [("", "photo", "animal"), *((n, name, "ab"[n % 2]) for n, name in enumerate(names))]
    )
    assert index(path, **WHOLE).labels.names == ("a", "b")


def test_images_elsewhere_are_found_and_offered(tmp_path: Path) -> None:
    names = pictures(tmp_path / "set", {"images": 4})
    (tmp_path / "set/data").mkdir()
    rows = [("file_name", "label"), *((name, "ab"[n % 2]) for n, name in enumerate(names))]
    path = table(tmp_path / "set/data/legend.csv", rows)
    folder = tmp_path / "set"
    assert refusal(path).endswith(f"did you mean data.image_folder={folder}?")
    found = index(path, image_folder=str(folder), **WHOLE)
    assert [row.name for row in found.splits["train"]] == names
    assert [found.reader.read(row.locator) for row in found.splits["train"]] == [jpeg(n) for n in range(4)]
    assert "data.image_folder: a folder is expected, found none at" in refusal(path, image_folder="nowhere")


def test_images_named_without_suffix(tmp_path: Path) -> None:
    pictures(tmp_path, {"train": 6})
    path = table(tmp_path / "labels.csv", [("id", "breed"), *((n, "ab"[n % 2]) for n in range(6))])
    assert refusal(path).endswith(f"set data.image_column=id data.image_folder={tmp_path / 'train'}")
    found = index(path, image_column="id", image_folder=str(tmp_path / "train"), **WHOLE)
    assert [row.name for row in found.splits["train"]] == [f"train/{n}.jpg" for n in range(6)]
    beside = table(tmp_path / "train/labels.csv", [("id", "breed"), *((n, "ab"[n % 2]) for n in range(6))])
    assert sizes(index(beside, **WHOLE)) == {"train": 6}


def test_a_test_table_without_labels_is_not_used(tmp_path: Path) -> None:
    for split, header, size in (("train", "file_name,label", 10), ("test", "file_name", 4)):
        class_folders(tmp_path / split, {"": size}, first=100 * size)
        rows = [f"{100 * size + n}.jpg" + (f",{'ab'[n % 2]}" if split == "train" else "") for n in range(size)]
        (tmp_path / split / "metadata.jsonl").write_text(
            "\n".join(json.dumps(dict(zip(header.split(","), row.split(","), strict=True))) for row in rows)
        )
    found = index(tmp_path, validation_share=0, test_share=0.2)
    assert "split test is not used: none of its 4 rows has a label" in notes(found)
    assert sizes(found) == {"train": 8, "test": 2}


def test_another_label_column_in_test_has_a_remedy_that_works(tmp_path: Path) -> None:
    for split, column, size in (("train", "diagnosis", 10), ("test", "dx", 4)):
        class_folders(tmp_path / split, {"": size}, first=100 * size)
        rows = [(f"{100 * size + n}.jpg", "ab"[n % 2], n) for n in range(size)]
        table(tmp_path / split / "metadata.csv", [("file_name", column, "age"), *rows])
    text = refusal(tmp_path, label_column="diagnosis")
    assert "rename the column in that file, or leave the split out by data.ignore_splits=[test]" in text
    assert sizes(index(tmp_path, label_column="diagnosis", ignore_splits=("test",), **WHOLE)) == {"train": 10}


# Parquet


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


# Numbers


def numbers(tmp_path: Path, values: list[object], **fields: Any) -> Index:
    names = pictures(tmp_path, {"p": len(values)})
    return index(
        table(tmp_path / "t.csv", [("file_name", "price_usd"), *zip(names, values, strict=True)]), **WHOLE, **fields
    )


@pytest.mark.parametrize(
    "values",
    [[100 + 7 * n for n in range(15)] * 2, [n + 0.5 for n in range(4)] * 8, [10 * (n // 2) for n in range(60)]],
)
def test_many_numbers_or_fractions_are_a_question(tmp_path: Path, values: list[object]) -> None:
    if len(set(values)) <= 20 and all(float(value).is_integer() for value in values):  # type: ignore[arg-type]
        assert len(numbers(tmp_path, values).labels.names) == 15
        return
    with pytest.raises(
        DataError, match=r"data\.label_type: classes are expected as the labels of .*, found \d+ numbers"
    ):
        numbers(tmp_path, values)
    assert len(numbers(tmp_path, values, label_type="classes").labels.names) == len(set(values))


def test_class_ids_are_classes_however_many(tmp_path: Path) -> None:
    assert len(numbers(tmp_path, [n % 40 for n in range(120)]).labels.names) == 40


def test_nearly_as_many_names_as_rows_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nearly as many values as rows: 30 of 30, such as 'photo 0'"):
        numbers(tmp_path, [f"photo {n}" for n in range(30)])


def test_names_that_are_alike_can_be_joined(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"Cat": 5, "cat": 3, "dog": 4})
    assert index(root, **WHOLE).labels.names == ("Cat", "cat", "dog")
    found = index(root, join_alike=True, **WHOLE)
    assert found.labels.names == ("Cat", "dog")
    assert "1 class joined that differed only in case or blanks: 'cat' to 'Cat'" in notes(found)
