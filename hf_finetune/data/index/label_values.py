"""What raw labels mean before they are numbered: -1, numbers that may be no classes, names that differ in case only.

Owns the rule for numbers: whole ones that are few and repeat are classes, fractions are quantities; anything else is a
question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hf_finetune.data.config import Data
from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.source import RawLabel, Source, SourceRow, count, listing, plain
from hf_finetune.errors import DataError
from hf_finetune.types import Note, Split

FEW = 20  # assumption: so many different numbers that repeat are grades, digits or answers, not measurements
TELLING_ROWS = 20  # fewer rows say nothing about how often a value repeats
MOSTLY = 0.7  # of the rows have numbers: the others' texts (NA, unknown, inf) are what is wrong with them
_NUMBER = re.compile(r"[-+]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
Found = Mapping[Split, list[SourceRow]]


def settle(found: Found, source: Source, config: Data) -> tuple[dict[Split, list[SourceRow]], list[Note]]:
    """The rows with the classes that are meant, and notes."""
    rows = dict(found)
    if source.label_names is None:
        rows = _minus_one(rows)
    return _joined(rows, source) if config.join_alike else (rows, [])


def _minus_one(found: Found) -> dict[Split, list[SourceRow]]:
    """-1 is a class where 1 or 0 and 1 stand beside it, as of a machine that knows two sides; else it is no label."""
    numbers = {row.label for rows in found.values() for row in rows if not _is_blank(row.label)}
    if -1 not in numbers or not numbers <= {-1, 0, 1} or 1 not in numbers:
        return dict(found)
    return {
        split: [replace(row, label=str(row.label)) if isinstance(row.label, int) else row for row in rows]
        if any(row.label in (0, 1) for row in rows)
        else rows  # a split of nothing but -1 has no labels
        for split, rows in found.items()
    }


def _is_blank(label: RawLabel) -> bool:
    return label is None or (isinstance(label, str) and not label.strip())


def is_number(text: str) -> bool:
    """Whether a text reads like a number, whichever sign stands before its fraction."""
    return _NUMBER.fullmatch(text) is not None


def are_quantities(found: Found, source: Source, config: Data) -> bool:
    """Whether the labels are numbers with fractions. Raises DataError with a question where whole numbers, or texts
    that hardly repeat, may be meant otherwise than as classes."""
    if source.label_names is not None or source.classes_given or config.label_type is not None:
        return False
    labels = [plain(str(row.label)).strip() for rows in found.values() for row in rows if not is_missing(row.label)]
    sizes = Counter(labels)
    numeric = [label for label in labels if is_number(label)]
    if len(numeric) >= MOSTLY * len(labels) and len(set(numeric)) > FEW:
        labels, sizes = numeric, Counter(numeric)
    if labels and all(map(is_number, sizes)):
        numbers = sorted({float(value.replace(",", ".")) for value in sizes})
        if any(not number.is_integer() for number in numbers):
            return True
        if len(labels) >= TELLING_ROWS and not _like_class_ids(numbers, len(labels)):
            shown = f"{count(len(numbers), 'number')} from {numbers[0]:g} to {numbers[-1]:g}"
            raise DataError(
                f"task.kind: classes, quantities or grades may be meant by the labels of {source.name}, found {shown} "
                f"in {count(len(labels), 'row')}",
                "set task.kind=regression if they are quantities, task.kind=ordinal if they are grades in an order, or "
                "task.kind=classification if each value is a class",
            )
    elif len(labels) >= TELLING_ROWS and len(sizes) > 0.8 * len(labels):
        raise DataError(
            f"data.label_column: classes are expected as the labels of {source.name}, found nearly as many values as "
            f"rows: {len(sizes):,} of {len(labels):,}, such as {listing(map(repr, sizes), 3)}",
            "set task.kind=classification if each value is a class, task.kind=regression if they are numbers, "
            "task.separator to what stands between several labels, or data.label_column to the column of classes",
        )
    return False


def looks_like_several(labels: Iterable[RawLabel]) -> list[Note]:
    """A note where texts look like several labels in one."""
    texts = {label for label in labels if isinstance(label, str)}
    lists = [text for text in texts if text.startswith("[") and text.endswith("]")]
    if texts and len(lists) > len(texts) / 2:
        said = f"labels such as {min(lists)!r} look like lists that were written as text and are taken whole"
        return [Note(f"{said}; lists are read from JSON lines and Parquet, or from one text by task.separator")]
    for separator in ";|,":
        joined = [text for text in texts if separator in text]
        parts = {part.strip() for text in joined for part in text.split(separator)}
        if joined and len(parts) < len(texts) and len(parts & texts) > len(parts) / 2:
            said = f"labels such as {min(joined)!r} look like several and are taken whole"
            return [Note(f"{said}; task.kind=multilabel task.separator='{separator}' takes them apart")]
    return []


def _like_class_ids(numbers: Sequence[float], rows: int) -> bool:
    """Whole numbers that repeat and are few, or count on from 0 or 1 without a gap as class ids do."""
    if 2 * len(numbers) > rows:
        return False
    return len(numbers) <= FEW or (numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1)


def _joined(found: Found, source: Source) -> tuple[dict[Split, list[SourceRow]], list[Note]]:
    """Names that differ only in case or blanks become the one that most rows of train have."""
    if source.label_names is not None:
        return _joined_ids(found, source.label_names)
    sizes = Counter(
        plain(row.label)
        for split in sorted(found, key=lambda split: split != "train")
        for row in found[split]
        if isinstance(row.label, str) and not is_missing(row.label)
    )
    chosen: dict[str, str] = {}
    for name, _ in sizes.most_common():
        chosen.setdefault(folded(name), name)
    rows: dict[Split, list[SourceRow]] = {
        split: [
            replace(row, label=chosen[folded(plain(row.label))])
            if isinstance(row.label, str) and not is_missing(row.label)
            else row
            for row in part
        ]
        for split, part in found.items()
    }
    return rows, _notes({name: chosen[folded(name)] for name in sizes})


def _joined_ids(found: Found, names: Sequence[str]) -> tuple[dict[Split, list[SourceRow]], list[Note]]:
    """The same for a dataset that numbers its classes: the first of the names that are alike stays."""
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        first.setdefault(folded(name), number)
    rows: dict[Split, list[SourceRow]] = {
        split: [
            replace(row, label=first[folded(names[row.label])])
            if isinstance(row.label, int) and 0 <= row.label < len(names)
            else row
            for row in part
        ]
        for split, part in found.items()
    }
    return rows, _notes({name: names[first[folded(name)]] for name in names})


def folded(name: str) -> str:
    """What names that differ only in case or blanks have in common."""
    return " ".join(name.casefold().split())


def _notes(joined: Mapping[str, str]) -> list[Note]:
    changed = [f"{name!r} to {into!r}" for name, into in joined.items() if name != into]
    if not changed:
        return []
    return [
        Note(f"{count(len(changed), 'class', 'classes')} joined that differed only in case or blanks", listing(changed))
    ]
