from __future__ import annotations

import json
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


def index(path: Path, **fields: Any) -> Index:
    return scan(Data(name=str(path), **fields), seed=0)


def refusal(path: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(path, **fields)
    return str(caught.value).replace(str(path.parent), "ROOT")


def write(folder: Path, text: str, name: str = "data.csv", images: int = 12) -> Path:
    for number in range(images):
        put(folder / f"img/{number}.jpg", number)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lines(*labels: str, header: str = "path,label") -> str:
    return "\n".join([header, *(f"img/{number}.jpg,{label}" for number, label in enumerate(labels))]) + "\n"


WHOLE = {"test_share": 0, "validation_share": 0}


def test_labels_stay_the_text_that_is_written(tmp_path: Path) -> None:
    written = ["n/a", "NA", "null", "1", "True", "007", "nan", "None", "1.0", "-1", "é", "7"]
    found = index(write(tmp_path, lines(*written)), **WHOLE)
    assert found.labels.names == tuple(sorted(written))
    assert [found.labels.names[row.label] for row in found.splits["train"]] == written
    assert [row.name for row in found.splits["train"]][:2] == ["img/0.jpg", "img/1.jpg"]
    assert found.reader.read(found.splits["train"][3].locator) == jpeg(3)


def test_whole_number_labels_are_in_order_of_value(tmp_path: Path) -> None:
    found = index(write(tmp_path, lines("10", "9", "007", "7", "-2", "100")), **WHOLE)
    assert found.labels.names == ("-2", "007", "7", "9", "10", "100")


def test_a_split_column_gives_the_splits(tmp_path: Path) -> None:
    text = "file_name,class,Split\n" + "".join(
        f"img/{number}.jpg,{'ab'[number % 2]},{split}\n"
        for number, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 4)
    )
    found = index(write(tmp_path, text))
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 6, "validation": 2, "test": 4}
    assert found.cut == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.tsv", "image\tcategory\nimg/0.jpg\ta, b\nimg/1.jpg\tc\n"),
        ("d.csv", "image;category\nimg/0.jpg;a, b\nimg/1.jpg;c\n"),
        ("d.csv", '\ufeffimage,category\n"img/0.jpg","a, b"\r\nimg/1.jpg,c\n'),
        ("d.jsonl", '{"image": "img/0.jpg", "category": "a, b"}\n\n{"image": "img/1.jpg", "category": "c"}\n'),
    ],
)
def test_tsv_semicolons_bom_quotes_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    found = index(write(tmp_path, text, name), **WHOLE)
    assert found.labels.names == ("a, b", "c")


def test_json_values_are_labels_by_their_text(tmp_path: Path) -> None:
    values: list[object] = [True, "x", 3, 1.5, None]
    text = "".join(json.dumps({"path": f"img/{n}.jpg", "label": value}) + "\n" for n, value in enumerate(values))
    found = index(write(tmp_path, text.replace("1.5", "4"), "d.jsonl"), max_bad_share=0.5, **WHOLE)
    assert found.labels.names == ("3", "4", "True", "x")
    assert [row.name for row in found.rejected] == ["img/4.jpg"]
    assert refusal(write(tmp_path, text, "d.jsonl"), label_column="label") == (
        "data.label_column: class names, numbers or lists are expected in column 'label' of ROOT/d.jsonl, found "
        "path (path), label (other)\n  set data.label_column to the column that holds them"
    )


def test_paths_are_relative_to_the_table_or_absolute_or_as_on_windows(tmp_path: Path) -> None:
    other = put(tmp_path / "other/x.jpg", 50)
    text = f"path,label\nimg/0.jpg,a\n./img/1.jpg,b\n{other},a\nimg\\2.jpg,b\n../t/img/3.jpg,a\n"
    found = index(write(tmp_path / "t", text), **WHOLE)
    assert [row.name for row in found.splits["train"]] == [
        "img/0.jpg", "img/1.jpg", other.as_posix(), "img/2.jpg", "../t/img/3.jpg"
    ]  # fmt: skip
    assert [found.reader.read(row.locator) for row in found.splits["train"]] == [jpeg(n) for n in (0, 1, 50, 2, 3)]


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    text = lines("a", "b") + "img/gone.jpg,a\nimg/2.jpg,\nimg/3.jpg,  \n,a\nimg/4.jpg,a,b\nimg/5.jpg,b\n"
    found = index(write(tmp_path, text), max_bad_share=0.9, **WHOLE)
    assert len(found.splits["train"]) == 3
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("data.csv line 8", "2 values are expected, found 3"),
        ("img/gone.jpg", "file not found"),
        ("data.csv line 7", "no path"),
        ("img/2.jpg", "no label"),
        ("img/3.jpg", "no label"),
    ]


def test_a_table_whose_files_are_all_missing_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, lines("a", "b", "c"), images=0)) == (
        "data.name: rows whose image files exist are expected in ROOT/data.csv, found none of 3; img/0.jpg: "
        "file not found\n  paths are taken relative to the folder of the table, or to data.image_folder"
    )


def test_addresses_are_refused(tmp_path: Path) -> None:
    text = "image,label\nhttps://example.org/1.jpg,a\nhttps://example.org/2.jpg,b\n"
    assert refusal(write(tmp_path, text)).startswith(
        "data.image_column: paths of files are expected, found the address https://example.org/1.jpg\n"
    )


@pytest.mark.parametrize(
    ("header", "fields", "text"),
    [
        ("path,label,class", {}, "data.label_column: one label column is expected in ROOT/data.csv, found label "
                                 "and class "
         "among path (path), label (text), class (text)\n  set data.label_column to the one to use"),
        ("path,x,y1", {}, "data.label_column: no column of ROOT/data.csv could be told to be the label column, found "
         "path (path), x (text), y1 (text)\n  set data.label_column to the one to use"),
        ("path,x,y1", {"label_column": "z"}, "data.label_column: ROOT/data.csv has no column 'z', found path (path), "
         "x (text), y1 (text)\n  set data.label_column to one of these"),
        ("path,x,y1", {"image_column": "z"}, "data.image_column: ROOT/data.csv has no column 'z', found path (path), "
         "x (text), y1 (text)\n  set data.image_column to one of these"),
        ("path,x,y1", {"label_column": "path"}, "data.label_column: class names, numbers or lists are "
                                                "expected in column "
         "'path' of ROOT/data.csv, found path (path), x (text), y1 (text)\n"
         "  set data.label_column to the column that holds them"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_told_are_listed(tmp_path: Path, header: str, fields: dict[str, str], text: str) -> None:
    assert refusal(write(tmp_path, f"{header}\nimg/0.jpg,a,b\nimg/1.jpg,b,c\n"), **fields) == text


def test_two_path_columns_need_a_usual_name_or_a_choice(tmp_path: Path) -> None:
    rows = "img/0.jpg,img/2.jpg,a\nimg/1.jpg,img/3.jpg,b\n"
    found = index(write(tmp_path, f"mask,image,label\n{rows}"), **WHOLE)
    assert [row.name for row in found.splits["train"]] == ["img/2.jpg", "img/3.jpg"]
    assert refusal(write(tmp_path, f"left,right,label\n{rows}")).startswith(
        "data.image_column: one image column is expected in ROOT/data.csv, found left and right among left "
        "(path), right"
    )
    found = index(write(tmp_path, f"left,right,label\n{rows}"), image_column="left", **WHOLE)
    assert [row.name for row in found.splits["train"]] == ["img/0.jpg", "img/1.jpg"]


def test_the_only_other_column_is_the_label(tmp_path: Path) -> None:
    assert index(write(tmp_path, lines("a", "b", header="photo of,animal")), **WHOLE).labels.names == ("a", "b")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "data.name: a table with a header, an image column and a label column is expected in "
              "ROOT/bad.csv, found none"),
        (b"just some words\n", "data.name: a table with a header, an image column and a label column is expected in "
         "ROOT/bad.csv, found only the column 'just some words'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "data.name: UTF-8 text is expected in ROOT/bad.csv, found otherwise at byte 0"),
        (b"path,label\ncaf\xe9.jpg,a\n", "data.name: UTF-8 text is expected in ROOT/bad.csv, found otherwise at "
                                         "byte 14"),
        (b"path,label,label\n", "data.name: column names must differ in ROOT/bad.csv, found 'label' twice"),
        (b'path,label\n"img/0.jpg,a\n', "data.name: a CSV table is expected in ROOT/bad.csv, found unexpected "
                                        "end of data"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    assert refusal(path).splitlines()[0] == text


@pytest.mark.parametrize(
    ("content", "text"),
    [('[{"path": "a"}]\n', "found on line 1: list"), ('{"path": "a"}\n{"path"\n', "found on line 2: Expecting "
        "':' delimiter")],
)  # fmt: skip
def test_a_file_that_is_no_json_lines_is_refused(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    assert (
        refusal(path).splitlines()[0]
        == f"data.name: one JSON object on each line is expected in ROOT/bad.jsonl, {text}"
    )


def test_a_metadata_table_in_the_folder_gives_the_labels(tmp_path: Path) -> None:
    class_folders(tmp_path, {"": 4})
    (tmp_path / "metadata.csv").write_text("file_name,animal\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat\n3.jpg,dog\n")
    found = index(tmp_path, **WHOLE)
    assert found.labels.names == ("cat", "dog")
    assert [row.name for row in found.splits["train"]] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_metadata_table_in_each_split_folder_gives_the_splits(tmp_path: Path, kind: str) -> None:
    for split, size in (("train", 6), ("val", 2), ("test", 4)):
        class_folders(tmp_path / split, {"": size}, first=10 * size)
        rows = [(f"{10 * size + n}.jpg", "ab"[n % 2]) for n in range(size)]
        path = tmp_path / split / f"metadata.{kind}"
        if kind == "parquet":
            pq.write_table(pa.table({"file_name": [r[0] for r in rows], "label": [r[1] for r in rows]}), path)
        elif kind == "jsonl":
            path.write_text("".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in rows))
        else:
            path.write_text("file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    found = index(tmp_path)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 6, "validation": 2, "test": 4}
    assert found.splits["test"][0].name == "test/40.jpg"
    assert found.reader.read(found.splits["test"][0].locator) == jpeg(40)


def test_a_metadata_table_without_labels_leaves_the_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "metadata.csv").write_text("file_name,caption\na/0.jpg,one\n")
    found = index(tmp_path, **WHOLE)
    assert found.labels.names == ("a", "b")
    assert tuple(map(str, found.notes)) == ("1 file ignored that are not images by suffix: .csv 1",)


def test_the_revision_follows_the_table(tmp_path: Path) -> None:
    path = write(tmp_path, lines("a", "b", "a", "b"))
    first = index(path, **WHOLE).revision
    assert index(path, **WHOLE).revision == first
    write(tmp_path, lines("a", "b", "b", "b"))
    assert index(path, **WHOLE).revision != first


@pytest.mark.parametrize("up", ["", "../"])
def test_a_way_up_is_no_split(tmp_path: Path, up: str) -> None:
    place = tmp_path / "tables"
    files = [f"{up}{split}/{number}.jpg" for split in ("train", "test") for number in range(4)]
    files += [f"{up}../more/{number}.jpg" for number in range(4)]
    for number, file in enumerate(files):
        put(place / file, number)
    rows = "".join(f"{file},{'ab'[number % 2]}\n" for number, file in enumerate(files))
    (place / "data.csv").parent.mkdir(exist_ok=True)
    (place / "data.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    found = index(place / "data.csv", validation_share=0)
    assert {split: len(rows) for split, rows in found.splits.items() if rows} == {"train": 4, "test": 4}
    assert [str(note) for note in found.notes if "not used" in str(note)] == [
        "splits not used: (in no split folder) (4 rows)"
    ]
    assert "splits from the folders test, train" in found.layout
