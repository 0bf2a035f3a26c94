from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.splits import assign, cut, few_of_each
from hf_finetune.data.index.targets import Encoded, Labelled
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import Source, SourceRow
from hf_finetune.errors import DataError
from hf_finetune.labels import Label, LabelColumn, LabelKind
from hf_finetune.types import Note, Split

BOTH: dict[Split, float] = {"validation": 0.15, "test": 0.15}


def rows(*sizes: int) -> tuple[list[Labelled], tuple[str, ...]]:
    made: list[Labelled] = [
        (SourceRow(f"c{label}/{n}.jpg", f"c{label}", f"/d/c{label}/{n}.jpg"), label)
        for label, size in enumerate(sizes)
        for n in range(size)
    ]
    return made, tuple(f"c{label}" for label in range(len(sizes)))


def strata(made: Sequence[Labelled], names: Sequence[str]) -> tuple[list[int], Sequence[str]]:
    return [label for _, label in made if isinstance(label, int)], names


def by_class(part: Sequence[Labelled]) -> Counter[Label]:
    return Counter(label for _, label in part)


def names(part: Sequence[Labelled]) -> set[str]:
    return {row.name for row, _ in part}


@pytest.mark.parametrize("sizes", [(100, 100), (7, 13, 101), (2, 2, 2, 2, 2), (1, 50, 50), (37,) * 20, (3,) * 200])
@pytest.mark.parametrize("share", [0.05, 0.15, 0.33])
def test_a_cut_is_exact_stratified_and_complete(sizes: tuple[int, ...], share: float) -> None:
    made, labels = rows(*sizes)
    parts, _ = cut(made, strata(made, labels), {"validation": share, "test": share}, [], seed=3)
    total = max(1, round(share * len(made)))
    capacity = sum(max(0, size - 1) for size in sizes)
    assert len(parts["test"]) == total
    assert len(parts["validation"]) == min(total, capacity - total)
    assert sorted(row.name for part in parts.values() for row, _ in part) == sorted(row.name for row, _ in made)
    for label, size in enumerate(sizes):
        assert by_class(parts["train"])[label] >= 1
        assert abs(by_class(parts["test"])[label] - share * size) < 1


def test_a_cut_depends_on_names_and_seed_and_not_on_order() -> None:
    made, labels = rows(40, 60)
    shuffled = random.Random(5).sample(made, len(made))
    first, _ = cut(made, strata(made, labels), BOTH, [], seed=0)
    second, _ = cut(shuffled, strata(shuffled, labels), BOTH, [], seed=0)
    other, _ = cut(made, strata(made, labels), BOTH, [], seed=1)
    for split in ("train", "validation", "test"):
        assert names(first[split]) == names(second[split])
    assert names(first["test"]) != names(other["test"])


def test_the_test_cut_does_not_move_with_the_validation_share() -> None:
    made, labels = rows(40, 60)
    wide, _ = cut(made, strata(made, labels), {"validation": 0.4, "test": 0.2}, [], seed=0)
    none, _ = cut(made, strata(made, labels), {"test": 0.2}, [], seed=0)
    assert names(wide["test"]) == names(none["test"])
    assert "validation" not in none


def test_train_keeps_the_order_of_the_source() -> None:
    made, labels = rows(40, 60)
    parts, _ = cut(made, strata(made, labels), BOTH, [], seed=0)
    assert parts["train"] == [row for row in made if row[0].name in names(parts["train"])]


@pytest.mark.parametrize("seed", range(5))
def test_byte_equal_rows_stay_on_one_side_and_the_cut_stays_near(seed: int) -> None:
    made, labels = rows(60, 60)
    equal = [[n, n + 1] for n in range(0, 40, 2)] + [[50, 51, 70], [80, 81, 82, 83]]
    parts, _ = cut(made, strata(made, labels), BOTH, equal, seed=seed)
    side = {row.name: split for split, part in parts.items() for row, _ in part}
    for group in equal:
        assert len({side[made[n][0].name] for n in group}) == 1
    assert len(parts["test"]) == 18
    assert len(parts["validation"]) == 18


def test_a_dataset_of_nothing_but_pairs_is_cut_too() -> None:
    made, labels = rows(10, 10, 10, 10)
    parts, _ = cut(made, strata(made, labels), BOTH, [[n, n + 1] for n in range(0, 40, 2)], seed=0)
    assert len(parts["test"]) == 6
    assert len(parts["validation"]) == 6
    assert all(size % 2 == 0 for size in by_class(parts["test"]).values())
    assert all(by_class(parts["train"])[label] >= 2 for label in range(4))


def test_classes_with_too_few_rows_stay_in_train_with_a_note() -> None:
    made, labels = rows(1, 40, 40, 1)
    parts, notes = cut(made, strata(made, labels), {"test": 0.1}, [], seed=0)
    assert by_class(parts["train"])[0] == by_class(parts["train"])[3] == 1
    assert [str(note) for note in notes] == ["test was cut without a row of 2 classes with few rows: c0, c3"]


def test_no_row_to_spare_is_refused() -> None:
    made, labels = rows(1, 1, 1)
    with pytest.raises(DataError) as caught:
        cut(made, strata(made, labels), BOTH, [], seed=0)
    assert str(caught.value) == (
        "data.test_share: test must be cut from train, found no class that can spare a row (3 rows of 3 classes)\n"
        "  add images, or name a given split in data.test_split, or set data.test_share to 0"
    )


def test_shares_that_leave_nothing_are_refused() -> None:
    made, labels = rows(10, 10)
    with pytest.raises(DataError) as caught:
        cut(made, strata(made, labels), {"validation": 0.5, "test": 0.6}, [], seed=0)
    assert str(caught.value) == (
        "data: the shares that are cut from train must leave some of it, found 1.1 in total\n"
        "  lower data.validation_share or data.test_share"
    )


def source(*splits: str) -> Source:
    return Source("some/set", {split: [SourceRow("r", "a", 0)] for split in splits}, FileReader())


@pytest.mark.parametrize(
    ("splits", "fields", "given"),
    [
        (("train", "validation", "test"), {}, {"train": "train", "validation": "validation", "test": "test"}),
        (("test", "train"), {}, {"train": "train", "test": "test"}),
        (("train", "val"), {"test_split": "val"}, {"train": "train", "test": "val"}),
        (("train", "val"), {"train_split": "val"}, {"train": "val"}),
        (("train", "validation"), {"test_split": "val"}, {"train": "train", "test": "validation"}),
        (("TRAIN", "Dev"), {"validation_split": "dev"}, {"train": "TRAIN", "validation": "Dev"}),
        (("train", "test", "eval"), {}, {"train": "train", "validation": "eval", "test": "test"}),
    ],
)
def test_own_splits_are_assigned(splits: tuple[str, ...], fields: dict[str, str], given: dict[Split, str]) -> None:
    assert assign(source(*splits), Data(name="x", **fields))[0] == given  # type: ignore[arg-type]


def test_splits_that_are_not_used_are_noted() -> None:
    notes = assign(source("train", "test", "extra", "unsupervised"), Data(name="x"))[1]
    assert notes == [Note("splits not used", "extra (1 row), unsupervised (1 row)")]


@pytest.mark.parametrize(
    ("splits", "fields", "text"),
    [
        (("train", "val"), {"validation_split": "val", "test_split": "val"},
         "data.test_split: each split needs rows of its own, found 'val' for validation as well\n"
         "  name another split, or set data.test_split to null to cut it from train"),
        (("train", "val"), {"train_split": "trian"},
         "data.train_split: some/set has no split 'trian', found train, val\n  set data.train_split to one "
         "of these"),
        (("full",), {},
         "data.train_split: a training split is expected in some/set, found full\n"
         "  set data.train_split to the split to train on"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_assigned_are_refused(splits: tuple[str, ...], fields: dict[str, str], text: str) -> None:
    with pytest.raises(DataError) as caught:
        assign(source(*splits), Data(name="x", **fields))  # type: ignore[arg-type]
    assert str(caught.value) == text


def encoded(made: Sequence[Labelled], labels: tuple[str, ...], kind: LabelKind = "classes") -> Encoded:
    return Encoded((LabelColumn("label", kind, labels),), {"train": made}, [], [], {})


def test_shots_keep_so_many_rows_of_each_class_and_say_what_is_not_used_and_what_is_short() -> None:
    made, labels = rows(40, 3, 60)
    few, notes = few_of_each(made, encoded(made, labels), 5, seed=0)
    assert by_class(few) == {0: 5, 1: 3, 2: 5}
    assert few == [row for row in made if row[0].name in names(few)]  # in the order of the source
    assert list(map(str, notes)) == [
        "train keeps 5 of each class by data.shots: 90 rows not used",
        "train has fewer than data.shots=5 rows of: c1 (3)",
    ]


def test_shots_depend_on_names_and_seed_alone_and_fewer_are_some_of_more() -> None:
    made, labels = rows(40, 60)
    shuffled = random.Random(5).sample(made, len(made))
    known = encoded(made, labels)
    ten = names(few_of_each(made, known, 10, seed=1)[0])
    assert ten == names(few_of_each(shuffled, known, 10, seed=1)[0])
    assert names(few_of_each(made, known, 3, seed=1)[0]) < ten
    assert names(few_of_each(made, known, 10, seed=2)[0]) != ten


def test_shots_are_refused_where_an_image_has_no_one_class() -> None:
    made, labels = rows(4, 4)
    with pytest.raises(DataError) as error:
        few_of_each(made, encoded(made, labels, "labels"), 1, seed=0)
    assert error.value.message == "data.shots: one class or grade an image is expected, found labels"
