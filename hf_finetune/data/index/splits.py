"""Splits: which of the dataset's own splits is which, and cutting from train those that it does not give.

A cut depends on the row names and the seed only, never on the order in which files were found; it is stratified by
class, and rows that belong together (byte-equal, or a group) stay on one side. Given splits are never altered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import Literal

import numpy as np

from hf_finetune.data.config import Data
from hf_finetune.data.index.targets import Encoded, Labelled
from hf_finetune.data.sources.source import Source, count, listing
from hf_finetune.data.sources.split_names import ALIASES, is_meant, read_splits, split_in, split_of
from hf_finetune.errors import DataError
from hf_finetune.types import SPLITS, Note, Split

_TELLING = 20  # fewer rows say nothing about how often a label repeats
_FAR = 0.1  # a cut whose size is off by more than this share of it is noted


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
        f"{name} ({'not counted' if size is None else count(size, 'row')})"
        + (", by data.ignore_splits" if name in (*ignored, *left_out) else "")
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
    together: Sequence[Sequence[int]],
    seed: int,
    group_key: str | None = None,
) -> tuple[dict[Split, list[Labelled]], list[Note]]:
    """Cuts `shares` (of the rows given) out of train; returns train and each cut split, in the order given, and notes.

    `strata`: each row's class, or what stands for one, and their names. Every class keeps a row in train, so that one
    whose rows all belong together stays there; a class's share is its largest-remainder part of round(share · rows), or
    what comes nearest to it. `together` holds positions of rows that go together, no row twice; `group_key`: of the
    recipe, where it asks for groups. Raises DataError where nothing can be spared.
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
    units = _units(rows, together, seed)
    if group_key is not None and len(units) < 2 and any(shares.values()):
        raise DataError(
            f"{group_key}: a cut needs two groups, found one with all of {count(len(rows), 'row')} of train",
            f"leave {group_key} out, or name given splits in data.validation_split and data.test_split",
        )
    for split in reversed(SPLITS[1:]):  # test first: it then stays the same whatever the validation share is
        share = shares.get(split, 0.0)
        if not share:
            continue
        free = [unit for unit in units if unit[0] not in side]
        spare = _spare(free, class_of, left)
        quota = _quotas(sizes, spare, share, [drawn(seed, f"{split}\0{name}") for name in names])
        taken = _take(free, class_of, quota, left)
        if not taken:
            what = f"{count(len(rows), 'row')} of {count(len(sizes), 'class', 'classes')}"
            grouped = f" in {count(len(units), 'group')}" if group_key is not None else ""
            hardly_repeat = len(rows) >= _TELLING and 2 * len(sizes) > len(rows)
            numbers = "set task.kind=regression if these are numbers, or " if hardly_repeat else ""
            raise DataError(
                f"data.{split}_share: {split} must be cut from train, found no class that can spare a row "
                f"({what}{grouped})",
                f"{numbers}add images, or name a given split in data.{split}_split"
                + (", or set data.test_share to 0" if shares.get("test") else ""),
            )
        side.update(dict.fromkeys(taken, split))
        notes += _shortfalls(split, share, taken, class_of, names, grouped=group_key is not None)
    parts: dict[Split, list[Labelled]] = {"train": [], **{split: [] for split in shares}}
    for number, row in enumerate(rows):
        parts[side.get(number, "train")].append(row)
    return parts, notes


def _shortfalls(
    split: Split, share: float, taken: Sequence[int], class_of: Sequence[int], names: Sequence[str], *, grouped: bool
) -> list[Note]:
    """Notes on what a cut could not give: a class, or its share of the rows where groups are large."""
    notes = []
    reached = {class_of[number] for number in taken}
    if absent := [names[label] for label in sorted(set(class_of)) if label not in reached]:
        few = f"{count(len(absent), 'class', 'classes')} with few {'groups' if grouped else 'rows'}: {listing(absent)}"
        notes.append(Note(f"{split} was cut without a row of {few}"))
    wanted = max(1, round(share * len(class_of)))
    if grouped and abs(len(taken) - wanted) > _FAR * wanted:
        asked = f"where data.{split}_share={share:g} asks for {wanted:,}"
        notes.append(Note(f"{split} was cut with {count(len(taken), 'row')} {asked}, since groups stay whole"))
    return notes


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
    order = sorted(range(len(rows)), key=lambda number: (drawn(seed, f"shots\0{rows[number][0].name}"), number))
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


def drawn(seed: int, text: str) -> bytes:
    """A place in an order that the seed draws: 8 bytes."""
    return blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()


def _units(rows: Sequence[Labelled], together: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]:
    """Rows, or rows that belong together, in an order drawn from the seed and the row names."""
    keys = np.fromiter((int.from_bytes(drawn(seed, row.name)) for row, _ in rows), np.uint64, len(rows))
    grouped = {number for unit in together for number in unit}
    units = [tuple(unit) for unit in together]
    units += [(number,) for number in range(len(rows)) if number not in grouped]

    def place(unit: tuple[int, ...]) -> tuple[int, str]:
        return min((int(keys[number]), str(rows[number][0].locator)) for number in unit)

    firsts = np.fromiter((min(keys[number] for number in unit) for unit in units), np.uint64, len(units))
    ordered: list[tuple[int, ...]] = []
    for _, alike in groupby(np.argsort(firsts, kind="stable").tolist(), key=lambda number: int(firsts[number])):
        same = [units[number] for number in alike]  # more than one where rows share a name
        ordered += same if len(same) == 1 else sorted(same, key=lambda unit: (place(unit), unit))
    return ordered


def _spare(units: Sequence[tuple[int, ...]], class_of: Sequence[int], left: Counter[int]) -> Counter[int]:
    """At most how many rows of each class can go, so that train keeps one: all but those of its smallest unit."""
    smallest: dict[int, int] = {}
    for unit in units:
        for label, size in Counter(class_of[number] for number in unit).items():
            smallest[label] = min(size, smallest.get(label, size))
    return Counter({label: left[label] - size for label, size in smallest.items()})


def _quotas(sizes: Counter[int], spare: Counter[int], share: float, ties: Sequence[bytes]) -> Counter[int]:
    """Rows to take of each class: largest remainders of round(share · rows), at most what it can spare."""
    total = max(1, round(share * sizes.total()))
    ideal = {label: share * size for label, size in sizes.items()}
    quota = Counter({label: min(int(part), spare[label]) for label, part in ideal.items()})
    by_remainder = sorted(ideal, key=lambda label: (quota[label] - ideal[label], ties[label]))
    missing = total - quota.total()
    while missing > 0:
        able = [label for label in by_remainder if quota[label] < spare[label]][:missing]
        if not able:
            break
        quota.update(able)
        missing -= len(able)
    return quota


def _take(
    units: Sequence[tuple[int, ...]], class_of: Sequence[int], quota: Counter[int], left: Counter[int]
) -> list[int]:
    """Positions of the rows to cut, lowering `left`: in order what fits every class's quota, then the unit that brings
    classes and the whole nearest to their quotas, as long as one does; the least harm where that were nothing."""
    taken: list[int] = []
    open_quota, total = Counter(quota), quota.total()

    def wants(place: int) -> Counter[int]:
        return Counter(class_of[number] for number in units[place])

    def further(place: int) -> int:
        missing, size = total - len(taken), len(units[place])
        of_classes = sum(abs(open_quota[label] - n) - abs(open_quota[label]) for label, n in wants(place).items())
        return of_classes + abs(missing - size) - abs(missing)

    def can_go(place: int) -> bool:
        return all(left[label] > size for label, size in wants(place).items())

    def take(place: int) -> None:
        taken.extend(units[place])
        open_quota.subtract(wants(place))
        left.subtract(wants(place))

    rest: list[int] = []
    for place in range(len(units)):
        if len(taken) == total:
            return taken
        if all(open_quota[label] >= size for label, size in wants(place).items()) and can_go(place):
            take(place)
        else:
            rest.append(place)
    queue = [(further(place), place) for place in rest]
    heapify(queue)
    while queue:
        before, place = heappop(queue)
        if before < (now := further(place)):  # it never falls as more is taken, so that the first is the best
            heappush(queue, (now, place))
        elif taken and now >= 0:
            break
        elif can_go(place):
            take(place)
    return taken
