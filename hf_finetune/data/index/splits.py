"""Splits: which of the dataset's own splits is which, and cutting from train those that it does not give.

A cut depends on the row names and the seed only, never on the order in which files were found; it is stratified by
class, and byte-equal rows stay on one side. Given splits are never altered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal

from hf_finetune.data.config import Data
from hf_finetune.data.index.targets import Encoded, Labelled
from hf_finetune.data.sources.source import Source, count, listing
from hf_finetune.data.sources.split_names import ALIASES, is_meant, read_splits, split_in, split_of
from hf_finetune.errors import DataError
from hf_finetune.types import SPLITS, Note, Split


def assign(source: Source, config: Data) -> tuple[dict[Split, str], list[Note]]:
    """The dataset's own name of each split that it gives, train first, and notes on those that are not used.

    Raises DataError where a named split is not there, is named twice, or no training split can be told.
    """
    asked: Mapping[Split, str | None] = {
        "train": config.train_split,
        "validation": config.validation_split,
        "test": config.test_split,
    }
    given: dict[Split, str] = {}
    left_out = source.left_out
    asked_out = [name for name in config.ignore_splits if not any(is_meant(own, [name]) for own in left_out)]
    ignored = [_own_name(name, "ignore", source) for name in asked_out]
    for split in SPLITS:
        wanted = asked[split]
        if wanted is None:
            continue
        if is_meant(wanted, config.ignore_splits):
            raise DataError(
                f"data.ignore_splits: splits that no other key names are expected, found {wanted!r}, which "
                f"data.{split}_split names",
                "take it out of one of the two",
            )
        own = _own_name(wanted, split, source)
        for other, taken in given.items():
            if taken == own:
                raise DataError(
                    f"data.{split}_split: each split needs rows of its own, found {own!r} for {other} as well",
                    f"name another split, or set data.{split}_split to null to cut it from train",
                )
        given[split] = own
    for split in SPLITS:
        if split in given:
            continue
        taken = (*given.values(), *ignored)
        free = [name for name, its in read_splits(source.splits).items() if its == split and name not in taken]
        if len(free) > 1:
            raise DataError(
                f"data.{split}_split: one split called {' or '.join(ALIASES[split][:3])} is expected in {source.name}, "
                f"found {listing(free)}",
                f"set data.{split}_split to the one to use",
            )
        if free:
            given[split] = free[0]
    if "train" not in given:
        raise DataError(
            f"data.train_split: a training split is expected in {source.name}, found {_splits_text(source)}",
            "set data.train_split to the split to train on"
            if any(split_in(name) in (None, "train") for name in source.splits)
            else "give the folder or table that holds the training split, too",
        )
    sizes = {name: len(rows) for name, rows in source.splits.items() if name not in given.values()} | dict(left_out)
    unused = [
        f"{name} ({count(size, 'row')})" + (", by data.ignore_splits" if name in (*ignored, *left_out) else "")
        for name, size in sizes.items()
    ]
    in_order: dict[Split, str] = {split: given[split] for split in SPLITS if split in given}
    return in_order, [Note("splits not used", listing(unused))] if unused else []


def find(source: Source, config: Data, split: Split) -> str:
    """The dataset's own name of one split; of a dataset without splits, everything. Raises DataError."""
    wanted = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}[split]
    if not source.has_splits:
        return next(iter(source.splits))
    if wanted is not None:
        return _own_name(wanted, split, source)
    usual = [name for name, its in read_splits(source.splits).items() if its == split]
    if len(usual) != 1:
        raise DataError(
            f"data.{split}_split: one {split} split is expected in {source.name}, found {_splits_text(source)}",
            f"set data.{split}_split",
        )
    return usual[0]


def _own_name(wanted: str, split: Split | Literal["ignore"], source: Source) -> str:
    """The dataset's own name of what a recipe calls a split. Raises DataError."""
    if wanted in source.splits:
        return wanted
    reads = read_splits(source.splits)
    alike = [name for name in source.splits if name.casefold().strip() == wanted.casefold().strip()]
    meant = [name for name, its in reads.items() if its == split_of(wanted)]
    for found in (alike, meant):  # `val` also means a split that is called `validation`
        if len(found) == 1:
            return found[0]
    if split == "ignore":
        raise DataError(
            f"data.ignore_splits: {source.name} has no split {wanted!r}, found {_splits_text(source)}",
            "name some of these, or leave data.ignore_splits out",
        )
    raise DataError(
        f"data.{split}_split: {source.name} has no split {wanted!r}, found {_splits_text(source)}",
        f"set data.{split}_split to one of these" + ("" if split == "train" else ", or to null"),
    )


def _splits_text(source: Source) -> str:
    if not source.has_splits:
        return "no splits (everything is train)"
    return listing(source.splits, 20) or "none"


def cut(
    rows: Sequence[Labelled],
    strata: tuple[Sequence[int], Sequence[str]],
    shares: Mapping[Split, float],
    equal: Sequence[Sequence[int]],
    seed: int,
) -> tuple[dict[Split, list[Labelled]], list[Note]]:
    """Cuts `shares` (of the rows given) out of train; returns train and each cut split, in the order given, and notes.

    `strata`: each row's class, or what stands for one, and their names. Every class with two rows or more keeps one in
    train; a class's share is its largest-remainder part of round(share · rows). `equal` holds positions of byte-equal
    rows, which go together.
    Raises DataError where no row can be spared.
    """
    if sum(shares.values()) >= 1:
        raise DataError(
            f"data: the shares that are cut from train must leave some of it, found {sum(shares.values()):g} in total",
            "lower data.validation_share or data.test_share",
        )
    class_of, names = strata
    sizes = Counter(class_of)
    left = Counter(sizes)
    side: dict[int, Split] = {}
    notes: list[Note] = []
    units = _units(rows, equal, seed)
    for split in reversed(SPLITS[1:]):  # test first: it then stays the same whatever the validation share is
        share = shares.get(split, 0.0)
        if not share:
            continue
        quota = _quotas(sizes, left, share, [_key(seed, f"{split}\0{name}") for name in names])
        taken = _take(units, side, class_of, quota, left)
        if not taken:
            raise DataError(
                f"data.{split}_share: {split} must be cut from train, found no class that can spare a row "
                f"({count(len(rows), 'row')} of {count(len(sizes), 'class', 'classes')})",
                f"add images, or name a given split in data.{split}_split"
                + (", or set data.test_share to 0" if split == "test" else ""),
            )
        side.update(dict.fromkeys(taken, split))
        reached = {class_of[number] for number in taken}
        if absent := [names[label] for label in sorted(sizes) if label not in reached]:
            few = f"{count(len(absent), 'class', 'classes')} with few rows: {listing(absent)}"
            notes.append(Note(f"{split} was cut without a row of {few}"))
    parts: dict[Split, list[Labelled]] = {"train": [], **{split: [] for split in shares}}
    for number, row in enumerate(rows):
        parts[side.get(number, "train")].append(row)
    return parts, notes


def few_of_each(rows: Sequence[Labelled], encoded: Encoded, shots: int, seed: int) -> tuple[list[Labelled], list[Note]]:
    """`shots` of the training rows of each class or grade (all where there are fewer), in the order given, and notes.

    Like a cut they depend on names and seed only, and fewer shots of the same seed are some of more. Raises DataError
    for labels of another kind.
    """
    kinds = [column.kind for column in encoded.columns]
    if kinds not in (["classes"], ["grades"]):
        raise DataError(
            f"data.shots: one class or grade an image is expected, found {listing(kinds)}", "leave data.shots out"
        )
    class_of, names = encoded.strata(rows)
    order = sorted(range(len(rows)), key=lambda number: (_key(seed, f"shots\0{rows[number][0].name}"), number))
    taken: Counter[int] = Counter()
    kept: set[int] = set()
    for number in order:
        if taken[class_of[number]] < shots:
            taken[class_of[number]] += 1
            kept.add(number)
    notes = [Note(f"train keeps {shots} of each class by data.shots: {count(len(rows) - len(kept), 'row')} not used")]
    if short := [f"{names[label]} ({size})" for label, size in sorted(taken.items()) if size < shots]:
        notes.append(Note(f"train has fewer than data.shots={shots} rows of", listing(short)))
    return [row for number, row in enumerate(rows) if number in kept], notes


def _key(seed: int, text: str) -> bytes:
    return blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()


def _units(rows: Sequence[Labelled], equal: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]:
    """Rows, or groups of byte-equal rows, in an order drawn from the seed and the row names."""
    keys = [_key(seed, row.name) for row, _ in rows]
    grouped = {number for group in equal for number in group}
    units = [tuple(group) for group in equal]
    units += [(number,) for number in range(len(rows)) if number not in grouped]
    order = [(min((keys[number], str(rows[number][0].locator)) for number in unit), unit) for unit in units]
    return [unit for _, unit in sorted(order)]


def _quotas(sizes: Counter[int], left: Counter[int], share: float, ties: Sequence[bytes]) -> Counter[int]:
    """Rows to take of each class: largest remainders of round(share · rows), at most what leaves one in train."""
    total = max(1, round(share * sizes.total()))
    ideal = {label: share * size for label, size in sizes.items()}
    quota = Counter({label: min(int(part), max(0, left[label] - 1)) for label, part in ideal.items()})
    by_remainder = sorted(ideal, key=lambda label: (quota[label] - ideal[label], ties[label]))
    missing = total - quota.total()
    while missing > 0:
        spare = [label for label in by_remainder if quota[label] < left[label] - 1][:missing]
        if not spare:
            break
        quota.update(spare)
        missing -= len(spare)
    return quota


def _take(
    units: Sequence[tuple[int, ...]],
    side: Mapping[int, Split],
    class_of: Sequence[int],
    quota: Counter[int],
    left: Counter[int],
) -> list[int]:
    """Positions of the rows to cut, lowering `left`. First what fits every class's quota, then what comes nearest."""
    taken: list[int] = []
    used: set[int] = set()
    open_quota = Counter(quota)
    total = quota.total()
    for exact in (True, False):
        for place, unit in enumerate(units):
            missing = total - len(taken)
            if missing <= 0:
                return taken
            if place in used or len(unit) > missing or unit[0] in side:
                continue
            wants = Counter(class_of[number] for number in unit)
            fits = all(open_quota[label] >= (size if exact else 1) for label, size in wants.items())
            if fits and all(left[label] > size for label, size in wants.items()):
                used.add(place)
                taken += unit
                open_quota.subtract(wants)
                left.subtract(wants)
    return taken
