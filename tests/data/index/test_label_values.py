"""Numbers and texts that may be no classes, and names that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_finetune.errors import DataError
from hf_finetune.labels import LabelColumn
from hf_finetune.types import Index
from tests.data.pictures import class_folders
from tests.data.sources.scanning import WHOLE, index, notes, pictures, table


def numbers(tmp_path: Path, values: list[object], **fields: Any) -> Index:
    names = pictures(tmp_path, {"p": len(values)})
    return index(
        table(tmp_path / "t.csv", [("file_name", "price_usd"), *zip(names, values, strict=True)]), **WHOLE, **fields
    )


@pytest.mark.parametrize(
    "values",
    [[100 + 7 * n for n in range(15)] * 2, [n + 0.5 for n in range(4)] * 8, [10 * (n // 2) for n in range(60)]],
)
def test_few_numbers_are_classes_many_a_question_and_fractions_quantities(tmp_path: Path, values: list[object]) -> None:
    if len(set(values)) <= 20 and all(float(value).is_integer() for value in values):  # type: ignore[arg-type]
        assert len(numbers(tmp_path, values).labels.names) == 15
        return
    if any(not float(value).is_integer() for value in values):  # type: ignore[arg-type]
        found = numbers(tmp_path, values)
        assert found.columns == (LabelColumn("price_usd", "numbers", ("price_usd",)),)
        assert found.splits["train"][1].label == (1.5,)
        assert "learnt as such (task.kind=regression); task.kind=classification takes each" in notes(found)
    else:
        with pytest.raises(DataError, match=r"task\.kind: classes, quantities or grades may be meant by the labels"):
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


def test_fractions_may_have_a_comma(tmp_path: Path) -> None:
    names = pictures(tmp_path, {"p": 8})
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["file_name;score", *(f"{name};{n % 4},5" for n, name in enumerate(names))]))
    assert index(path, **WHOLE).splits["train"][1].label == (1.5,)
