"""Tables beside, above and instead of folders; split columns; images elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.pictures import class_folders, jpeg
from tests.data.sources.scanning import WHOLE, index, notes, pictures, refusal, sizes, table


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
    assert "data.split_column and data.train_split would use it: fold (0, 1)" in notes(index(path, **WHOLE))
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


def test_a_test_table_of_names_alone_is_not_used(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 12})
    table(tmp_path / "train.csv", [("file_name", "label"), *((name, "ab"[n % 2]) for n, name in enumerate(names[:8]))])
    table(tmp_path / "test.csv", [("file_name",), *((name,) for name in names[8:])])
    found = index(tmp_path, validation_share=0, test_share=0)
    assert sizes(found) == {"train": 8}
    assert "split test is not used: none of its 4 rows has a label" in notes(found)


def test_another_label_column_in_test_has_a_remedy_that_works(tmp_path: Path) -> None:
    for split, column, size in (("train", "diagnosis", 10), ("test", "dx", 4)):
        class_folders(tmp_path / split, {"": size}, first=100 * size)
        rows = [(f"{100 * size + n}.jpg", "ab"[n % 2], n) for n in range(size)]
        table(tmp_path / split / "metadata.csv", [("file_name", column, "age"), *rows])
    text = refusal(tmp_path, label_column="diagnosis")
    assert "rename the column in that file, or leave the split out by data.ignore_splits=[test]" in text
    assert sizes(index(tmp_path, label_column="diagnosis", ignore_splits=("test",), **WHOLE)) == {"train": 10}


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_a_table_of_names_alone_finds_them_in_several_folders(tmp_path: Path, suffix: str) -> None:
    names = pictures(tmp_path / "ham", {"part_1": 8, "part_2": 8})
    class_folders(tmp_path / "meta", {"": 16})  # another dataset whose files are called the same
    rows = [(f"{n}{suffix}", "ab"[n % 2], 30 + n) for n in range(16)]
    path = table(tmp_path / "ham" / "HAM_metadata.csv", [("image_id", "dx", "age"), *rows])
    found = index(tmp_path / "ham", label_column="dx", **WHOLE)
    assert found.labels.names == ("a", "b")
    assert sorted(row.name for row in found.splits["train"]) == names
    assert f"data.image_folder={tmp_path / 'ham'}" in refusal(path, label_column="dx").replace("ROOT", str(path))
    alone = index(path, label_column="dx", image_column="image_id", image_folder=str(tmp_path / "ham"), **WHOLE)
    assert sorted(row.name for row in alone.splits["train"]) == names


@pytest.mark.parametrize("column", ["mode", "dataset", "group"])
def test_a_column_whose_values_are_splits_is_used_whatever_it_is_called(tmp_path: Path, column: str) -> None:
    names = pictures(tmp_path, {"p": 12})
    rows = [(name, "ab"[n % 2], "train" if n < 8 else "test") for n, name in enumerate(names)]
    assert sizes(index(table(tmp_path / "t.csv", [("file_name", "label", column), *rows]), validation_share=0)) == {
        "train": 8,
        "test": 4,
    }


def test_a_mark_of_the_test_is_noted_and_can_be_used(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 12})
    rows = [(name, "ab"[n % 2], n >= 8) for n, name in enumerate(names)]
    path = table(tmp_path / "t.csv", [("file_name", "label", "is_test"), *rows])
    assert "data.split_column and data.train_split would use it: is_test (False, True)" in notes(index(path, **WHOLE))
    found = index(path, split_column="is_test", train_split=False, test_split=True, validation_share=0)
    assert sizes(found) == {"train": 8, "test": 4}


def test_blanks_beside_a_marked_test_are_for_training(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 12})
    rows = [(name, "ab"[n % 2], "" if n < 8 else "test") for n, name in enumerate(names)]
    found = index(table(tmp_path / "t.csv", [("file_name", "label", "split"), *rows]), validation_share=0)
    assert sizes(found) == {"train": 8, "test": 4}
