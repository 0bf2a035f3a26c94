"""Folds for cross-validation."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from hf_finetune.data.index.folds import cut_folds
from hf_finetune.errors import DataError
from hf_finetune.types import Row


def rows_of(*sizes: int) -> list[Row]:
    """So many rows of each class, each by itself."""
    return [Row(f"{label}/{n}", label, f"{label}/{n}") for label, size in enumerate(sizes) for n in range(size)]


def grouped(sizes: list[int], classes: int = 1) -> list[Row]:
    """Units of so many rows, classes in turn."""
    numbers = [(unit, n) for unit, size in enumerate(sizes) for n in range(size)]
    return [Row(f"{unit}/{n}", (unit + n) % classes, f"{unit}/{n}", unit) for unit, n in numbers]


def classes_of(rows: list[Row]) -> list[int]:
    return [row.label for row in rows if isinstance(row.label, int)]


@pytest.mark.parametrize("sizes", [(100, 100), (7, 13, 101), (2, 2, 2, 2, 2), (1, 50, 50), (37,) * 20])
@pytest.mark.parametrize("folds", [2, 5, 10])
def test_classes_are_spread_as_evenly_as_can_be(sizes: tuple[int, ...], folds: int) -> None:
    rows = rows_of(*sizes)
    found = cut_folds(rows, classes_of(rows), folds, seed=3)
    total = np.bincount(found, minlength=folds)
    assert total.max() - total.min() <= 1
    for label in range(len(sizes)):
        there = np.bincount(found[np.array(classes_of(rows)) == label], minlength=folds)
        assert there.max() - there.min() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_units_stay_whole_and_folds_come_out_alike(seed: int) -> None:
    drawn = random.Random(seed)
    rows = grouped([drawn.randint(1, 12) for _ in range(120)], classes=3)
    found = cut_folds(rows, classes_of(rows), 5, seed=0)
    assert all(len({found[n] for n, row in enumerate(rows) if row.unit == unit}) == 1 for unit in range(120))
    total = np.bincount(found)
    assert total.max() - total.min() <= 3
    for label in range(3):
        there = np.bincount(found[np.array(classes_of(rows)) == label])
        assert there.max() - there.min() <= 4


def test_folds_depend_on_names_and_seed_and_not_on_order() -> None:
    rows = rows_of(20, 30)
    shuffled = random.Random(1).sample(rows, len(rows))

    def folds(of: list[Row], seed: int) -> dict[str, int]:
        return {row.name: int(fold) for row, fold in zip(of, cut_folds(of, classes_of(of), 5, seed), strict=True)}

    assert folds(rows, 0) == folds(shuffled, 0)
    assert folds(rows, 0) != folds(rows, 1)


@pytest.mark.parametrize("sizes", [[1] * 5, [9, 1, 1, 1, 1], [3, 3, 3, 3, 3]])
def test_no_fold_is_empty_where_there_is_a_unit_for_each(sizes: list[int]) -> None:
    rows = grouped(sizes, classes=2)
    assert Counter(cut_folds(rows, classes_of(rows), 5, seed=0).tolist()).keys() == set(range(5))


@pytest.mark.parametrize(
    ("rows", "folds", "text"),
    [
        (rows_of(2, 1), 4, "--folds: no more folds than rows are expected, found 4 for 3 rows\n  lower it to 3"),
        (grouped([5, 5, 2]), 4,
         "--folds: no more folds than groups of rows are expected, found 4 for 12 rows in 3 groups\n  lower it to 3"),
        (grouped([5]), 2,
         "--folds: no more folds than groups of rows are expected, found 2 for 5 rows in 1 group\n"
         "  a fold needs a group of its own: add images"),
    ],
)  # fmt: skip
def test_folds_that_cannot_be_are_refused(rows: list[Row], folds: int, text: str) -> None:
    with pytest.raises(DataError) as caught:
        cut_folds(rows, classes_of(rows), folds, seed=0)
    assert str(caught.value) == text
