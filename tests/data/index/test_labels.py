from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import build_index
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import RawLabel, Source, SourceRow
from hf_finetune.errors import DataError
from hf_finetune.types import Index

WHOLE: dict[str, Any] = {"test_share": 0, "validation_share": 0}


def index(splits: Mapping[str, Sequence[RawLabel]], names: tuple[str, ...] | None = None, **fields: Any) -> Index:
    rows = {
        split: [SourceRow(f"{split} {n}", label, n) for n, label in enumerate(found)] for split, found in splits.items()
    }
    return build_index(Source("the set", rows, FileReader(), label_names=names), Data(name="x", **fields), seed=0)


def refusal(splits: Mapping[str, Sequence[RawLabel]], names: tuple[str, ...] | None = None, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(splits, names, **fields)
    return str(caught.value)


def test_numbers_without_names_are_their_own_names_in_order_of_value() -> None:
    found = index({"train": [102, 5, 5, 102, 7]}, **WHOLE)
    assert found.labels.names == ("5", "7", "102")
    assert [row.label for row in found.splits["train"]] == [2, 0, 0, 2, 1]


def test_text_is_sorted_as_text_unless_all_of_it_is_whole_numbers() -> None:
    assert index({"train": ["10", "9", "x"]}, **WHOLE).labels.names == ("10", "9", "x")
    assert index({"train": ["10", "9", "8"]}, **WHOLE).labels.names == ("8", "9", "10")


def test_rows_without_a_label_are_rejected() -> None:
    found = index({"train": ["a", None, "b", "", " ", "a"]}, max_bad_share=0.9, **WHOLE)
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("train 1", "no label"), ("train 3", "no label"), ("train 4", "no label")
    ]  # fmt: skip


def test_a_test_split_of_minus_ones_is_unlabelled() -> None:
    found = index({"train": [0, 1] * 10, "test": [-1] * 5}, ("a", "b"))
    assert found.cut == ("validation", "test")
    assert tuple(map(str, found.notes)) == ("split test is not used: none of its 5 rows has a label",)


def test_a_label_that_train_lacks_is_refused() -> None:
    text = (
        "data.validation_split: every class of validation must be in train, found 2 classes that train lacks: 'c', 'd'"
    )
    for names, splits in (
        (None, {"train": ["a", "b"], "validation": ["c", "d"]}),
        (("a", "b", "c", "d"), {"train": [0, 1], "validation": [2, 3]}),
    ):
        assert refusal(splits, names, test_share=0) == (
            f"{text}\n  make label names equal in every split, or set data.validation_split to another split"
        )


def test_a_train_label_that_test_lacks_is_a_note() -> None:
    found = index({"train": ["a", "b", "c"], "test": ["a"]}, validation_share=0)
    assert tuple(map(str, found.notes)) == ("test has no row of 2 classes: b, c",)


def test_classes_that_look_alike_are_noted() -> None:
    assert tuple(map(str, index({"train": ["Cat", "cat", "dog"]}, **WHOLE).notes)) == (
        "classes that differ only in case or blanks are kept apart (data.join_alike=true joins them): 'Cat', 'cat'",
    )


@pytest.mark.parametrize(("labels", "names", "found"), [(["a", "a"], None, "a"), ([1, 1], ("a", "b"), "b")])
def test_one_class_is_refused(labels: list[RawLabel], names: tuple[str, ...] | None, found: str) -> None:
    assert refusal({"train": labels}, names) == (
        f"data.name: at least two classes are needed in the training split of the set, found only {found!r}\n"
        "  put the images of each class into a folder of its own, or set data.label_column to the column that "
        "tells the "
        "classes apart"
    )


def test_a_train_split_without_any_label_is_refused() -> None:
    assert refusal({"train": [None, -1]}) == (
        "data.max_bad_share: at most 1.0% of the rows of the set may be unusable, found 2 of 2: train 0: no label; "
        "train 1: no label\n  mend these rows"
    )
    assert refusal({"train": ["a", None, "b"]}).endswith("rows, or raise data.max_bad_share to skip them")


def test_a_split_that_is_named_but_empty_is_refused() -> None:
    assert refusal({"train": ["a", "b"], "test": []}) == (
        "data.name: images with labels are expected in test of the set, found none\n"
        "  check that the files are there and that data.name is the folder above the class folders"
    )
