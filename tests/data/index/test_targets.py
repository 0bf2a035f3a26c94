"""Labels of every kind as tables and folders hold them, and what is wrong with them, by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import index_of, scan
from hf_finetune.errors import DataError
from hf_finetune.labels import LabelColumn, Reading
from hf_finetune.types import Index
from tests.data.pictures import class_folders, put
from tests.data.sources.scanning import WHOLE, notes, pictures, table

ROWS = 24


def read(tmp_path: Path, columns: dict[str, list[object]], reading: Reading | None = None, **fields: Any) -> Index:
    """Of a table with these columns."""
    names = pictures(tmp_path, {"p": len(next(iter(columns.values())))})
    lines = [("file_name", *columns), *zip(names, *columns.values(), strict=True)]
    config = Data(name=str(table(tmp_path / "t.csv", lines)), label_column=tuple(columns), **{**WHOLE, **fields})
    return scan(config, seed=0, reading=reading or Reading())


def refused(tmp_path: Path, columns: dict[str, list[object]], reading: Reading | None = None, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, columns, reading, **fields)
    return str(caught.value)


def labels(found: Index) -> list[Any]:
    return [row.label for row in found.splits["train"]]


def test_columns_of_0_and_1_are_labels_and_an_empty_cell_is_not_known(tmp_path: Path) -> None:
    found = read(tmp_path, {"cat": [0, 1] * 12, "dog": [1, 1, 0] * 8, "n/a": ["", *["true", "no"] * 11, "1"]},
                 Reading("labels"))  # fmt: skip
    assert found.columns[0].names == ("cat", "dog", "n/a")
    assert labels(found)[1:4] == [(1, 1, 1), (0, 0, 0), (1, 1, 1)]
    assert math.isnan(labels(found)[0][2])
    assert read(tmp_path, {"cat": [0, 1] * 12, "dog": [1, 1, 0] * 8}).columns[0].kind == "labels"
    assert "'2' is neither 0 nor 1" in refused(tmp_path, {"a": [0, 1, 2] * 8, "b": [1] * 24}, Reading("labels"))


def test_one_text_holds_several_labels_where_the_recipe_says_what_stands_between_them(tmp_path: Path) -> None:
    found = read(tmp_path, {"tags": ["a; b", "b", "", "c;a"] * 6}, Reading("labels", separator=";"))
    assert found.columns == (LabelColumn("tags", "labels", ("a", "b", "c")),)
    assert labels(found)[:2] == [(1, 1, 0), (0, 1, 0)]
    unknown = Reading("labels", names=("a", "b"), separator=";")
    assert "'c' is none of the labels" in refused(tmp_path, {"tags": ["a;b", "b", "b", "c;a"] * 6}, unknown)


def test_an_image_in_several_class_folders_has_all_of_their_labels(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 8, "dog": 8})
    put(tmp_path / "cat" / "both.jpg", 500)
    put(tmp_path / "dog" / "called otherwise.jpg", 500)
    config = Data(name=str(tmp_path), validation_share=0.25, test_share=0)
    found = scan(config, seed=0, reading=Reading("labels"))
    rows = [row for split in found.splits.values() for row in split]
    assert len(rows) == 17
    assert [row.name for row in rows if row.label == (1.0, 1.0)] == ["cat/both.jpg"]
    assert "1 image found in several class folders, with all of their labels" in notes(found)


def test_numbers_that_are_none_are_named_and_the_others_kept(tmp_path: Path) -> None:
    values: list[object] = [n + 0.5 for n in range(ROWS)]
    values[3:8] = ["cheap", "nan", "inf", "1e12", ""]
    assert "found 5 of 24" in refused(tmp_path, {"price": values}, Reading("numbers"))
    found = read(tmp_path, {"price": values}, Reading("numbers"), max_bad_share=0.3)
    assert {row.reason for row in found.rejected} == {
        "'cheap' is no number",
        "'nan' is no finite number",
        "'inf' is no finite number",
        "1e+12 lies more than 1,000 interquartile ranges from the median of train",
        "no label",
    }
    assert len(found.splits["train"]) == 19


def test_texts_among_numbers_are_what_is_wrong_with_them(tmp_path: Path) -> None:
    """They make no classes of a column of prices, however often they repeat."""
    values: list[object] = [f"{100 + n}.5" for n in range(27)] + ["NA"] * 9
    assert "found 9 of 36" in refused(tmp_path, {"price": values})
    found = read(tmp_path, {"price": values}, max_bad_share=0.3)
    assert (found.columns[0].kind, {row.reason for row in found.rejected}) == ("numbers", {"'NA' is no number"})


def test_columns_that_pandas_wrote_as_0_0_and_1_0_are_labels_too(tmp_path: Path) -> None:
    found = read(tmp_path, {"cat": ["0.0", "1.0"] * 12, "dog": ["1.0", "", "0.0"] * 8})
    assert (found.columns[0].kind, labels(found)[0]) == ("labels", (0, 1))


@pytest.mark.parametrize("values", [["a;b", "a", "b", "b;a"] * 6, ["['a', 'b']", "['a']", "['b']", "[]"] * 6])
def test_texts_that_look_like_several_labels_are_noted(tmp_path: Path, values: list[object]) -> None:
    quoted: list[object] = [f'"{value}"' for value in values]
    assert "task.separator" in notes(read(tmp_path, {"tags": quoted}))
    assert "task.separator" in notes(read(tmp_path, {"tags": quoted}, Reading("labels")))


def test_lists_of_json_lines_are_labels(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 24})
    rows = [{"file_name": name, "tags": ["a", "b"] if n % 2 else []} for n, name in enumerate(names)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = scan(Data(name=str(tmp_path / "t.jsonl"), label_column="tags", **WHOLE), seed=0)
    assert (found.columns[0].names, labels(found)[:2]) == (("a", "b"), [(0, 0), (1, 1)])


@pytest.mark.parametrize("marks", [[[0, 1, 0], [1, 1, 0]], [[False, True, False], [True, True, False]]])
def test_lists_of_0_and_1_mark_a_label_each(marks: list[list[int]]) -> None:
    """As the targets of a classifier are written; ids in lists of other lengths stay ids, in the order of numbers."""
    dataset = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8), (9 * n,) * 3) for n in range(ROWS)], "label": marks * (ROWS // 2)},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.List(datasets.Value("int64"))}),
    )
    found = index_of(dataset, Data(**WHOLE), seed=0)
    assert found.columns[0].names == ("0", "1", "2")
    assert labels(found)[:2] == [(0, 1, 0), (1, 1, 0)]
    ids = dataset.remove_columns("label").add_column("label", [[2, 10], [0]] * (ROWS // 2))
    assert index_of(ids, Data(**WHOLE), seed=0).columns[0].names == ("0", "2", "10")


def test_what_is_said_of_one_of_several_targets_names_it_and_its_keys(tmp_path: Path) -> None:
    reading = Reading(columns={"year": Reading(), "grade": Reading("grades")})
    years: list[object] = [1900 + n for n in range(ROWS)]
    text = refused(tmp_path, {"year": years, "grade": [1, 2, 3] * 8}, reading)
    assert "task.targets.year.kind=regression" in text


def test_a_comma_stands_before_fractions_where_the_column_shows_that(tmp_path: Path) -> None:
    values: list[object] = [f'"{n},5"' for n in range(ROWS)]
    assert labels(read(tmp_path, {"price": values}, Reading("numbers")))[1] == (1.5,)
    thousands: list[object] = [f'"{n + 1},500"' for n in range(ROWS)]
    assert "'1,500' is no number; write a decimal point" in refused(tmp_path, {"price": thousands}, Reading("numbers"))


def test_grades_are_in_the_order_of_the_recipe_or_of_whole_numbers(tmp_path: Path) -> None:
    words: list[object] = ["mild", "severe", "none"] * 8
    graded = Reading("grades", ("none", "mild", "severe"))
    assert labels(read(tmp_path, {"g": words}, graded))[:3] == [1, 2, 0]
    assert "the grades from the lowest up are expected" in refused(tmp_path, {"g": words}, Reading("grades"))
    assert read(tmp_path, {"g": [10, 2, 1] * 8}, Reading("grades")).columns[0].names == ("1", "2", "10")
    partial = Reading("grades", ("none", "mild"))
    assert "'severe' is none of the grades none, mild" in refused(tmp_path, {"g": words}, partial)


def test_several_targets_keep_a_row_that_has_one_of_them(tmp_path: Path) -> None:
    reading = Reading(columns={"price": Reading("numbers"), "style": Reading("classes")})
    columns: dict[str, list[object]] = {"style": ["old", "new", ""] * 8, "price": [*range(23), ""]}
    found = read(tmp_path, columns, reading, max_bad_share=0.1)
    assert [(column.name, column.kind) for column in found.columns] == [("price", "numbers"), ("style", "classes")]
    assert labels(found)[1] == (1, 0)
    assert math.isnan(labels(found)[2][1])
    assert [row.reason for row in found.rejected] == ["no label"]  # the last row has neither
    missing = Reading(columns={"size": Reading("numbers"), "style": Reading("classes")})
    assert "task.targets: columns of" in refused(tmp_path, columns, missing)


def test_whole_numbers_that_are_many_are_a_question_with_a_key_for_each_answer(tmp_path: Path) -> None:
    text = refused(tmp_path, {"price": [10 * (n // 2) for n in range(60)]})
    for key in ("task.kind=regression", "task.kind=ordinal", "task.kind=classification"):
        assert key in text


def test_a_label_column_that_is_missing_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 4})
    path = table(tmp_path / "t.csv", [("file_name", "cost"), *zip(names, range(4), strict=True)])
    with pytest.raises(DataError, match=r"price.*cost"):
        scan(Data(name=str(path), label_column="price", **WHOLE), seed=0, reading=Reading("numbers"))


def test_fractions_as_grades_and_prices_as_labels_are_told_what_they_are(tmp_path: Path) -> None:
    prices: list[object] = [n + 0.5 for n in range(ROWS)]
    text = refused(tmp_path, {"price": prices}, Reading("grades"))
    assert "24 texts" in text
    assert "task.order to all of them in their order, or task.kind=regression" in text
    text = refused(tmp_path, {"price": prices}, Reading("classes"), test_share=0.2)
    assert "task.kind=regression if these are numbers" in text


def test_an_image_that_stands_twice_keeps_the_labels_of_each_row(tmp_path: Path) -> None:
    name = pictures(tmp_path, {"p": 1})[0]
    lines = [("file_name", "price", "style"), *((name, n, "ab"[n % 2]) for n in range(ROWS))]
    config = Data(name=str(table(tmp_path / "mytask.csv", lines)), **WHOLE)
    reading = Reading(columns={"price": Reading("numbers"), "style": Reading("classes")})
    assert labels(scan(config, seed=0, reading=reading)) == [(n, n % 2) for n in range(ROWS)]
    asked = {"price": Reading(), "style": Reading("classes")}
    with pytest.raises(DataError, match=r"^task\.targets\.price\.kind: .*mytask\.csv, column price"):
        scan(config, seed=0, reading=Reading(columns=asked))


def test_classes_of_one_of_several_targets_keep_the_ids_of_a_result(tmp_path: Path) -> None:
    """A split to score may lack a class, and have one that the result does not know."""
    reading = Reading(columns={"price": Reading("numbers"), "style": Reading("classes", ("new", "old", "worn"))})
    found = read(tmp_path, {"style": ["worn", "new", "odd"] * 8, "price": list(range(ROWS))}, reading)
    assert [label[1] for label in labels(found)[:2]] == [2, 0]
    assert math.isnan(labels(found)[2][1])
    assert found.columns[1].names == ("new", "old", "worn")
