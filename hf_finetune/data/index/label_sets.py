"""Any number of labels a row: from columns of 0 and 1, from lists, from one text with a separator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hf_finetune.data.index.duplicates import equal_rows
from hf_finetune.data.index.labels import NO_LABEL, in_order, text_of
from hf_finetune.data.sources.source import Cell, Cells, RawLabel, SourceRow, count, plain
from hf_finetune.labels import Reading
from hf_finetune.types import Note, Reader, Rejected, Split

_TRUTH = {"1": 1.0, "1.0": 1.0, "0.0": 0.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
_MARKS = {"0": False, "1": True, "False": False, "True": True}
LabelledSet = tuple[SourceRow, tuple[float, ...]]


def encode_label_sets(
    found: Mapping[Split, Sequence[SourceRow]],
    label_names: tuple[str, ...] | None,
    columns: Sequence[str],
    reading: Reading,
) -> tuple[tuple[str, ...], dict[Split, list[LabelledSet]], list[Rejected]]:
    """Label names in order, rows with 0 or 1 for each (NaN where a column's cell is empty), and the rows that cannot be
    used. An empty list or text has no label, which is an answer; nothing at all is none."""
    by_columns = any(isinstance(row.label, Cells) for its in found.values() for row in its)
    marked = marks_in([row.label for its in found.values() for row in its if row.label is not None], reading.names)
    rows: dict[Split, list[LabelledSet]] = {}
    rejected: list[Rejected] = []
    sets: dict[Split, list[tuple[SourceRow, frozenset[str]]]] = {}
    for split, its in found.items():
        kept, named = rows.setdefault(split, []), sets.setdefault(split, [])
        for row in its:
            if by_columns:
                truths = [_truth_of(cell) for cell in (row.label if isinstance(row.label, Cells) else (row.label,))]
                wrong = next((f"{each} in column {at!r}" for each, at in zip(truths, columns, strict=True)
                              if isinstance(each, str)), None)  # fmt: skip
                numbers = tuple(each for each in truths if not isinstance(each, str))
                if wrong is not None or all(map(math.isnan, numbers)):
                    rejected.append(Rejected(row.name, split, wrong or NO_LABEL))
                else:
                    kept.append((row, numbers))
            elif isinstance(row.label, Cells) or (
                (labels := _labels_of(_of_marks(row.label) if marked else row.label, label_names, reading.separator))
                is None
            ):
                rejected.append(Rejected(row.name, split, NO_LABEL))
            else:
                named.append((row, labels))
    if by_columns:
        return tuple(columns), rows, rejected
    seen = {name for its in sets.values() for _, labels in its for name in labels}
    if marked and label_names is None:
        seen = set(map(str, range(marked)))
    names = reading.names or label_names or in_order(seen)
    places = {name: place for place, name in enumerate(names)}
    for split, its in sets.items():
        for row, labels in its:
            if unknown := sorted(labels - places.keys()):
                rejected.append(Rejected(row.name, split, f"{unknown[0]!r} is none of the labels"))
                continue
            truth = [0.0] * len(names)
            for name in labels:
                truth[places[name]] = 1.0
            rows[split].append((row, tuple(truth)))
    return names, rows, rejected


def join_equal(rows: dict[Split, list[LabelledSet]], reader: Reader) -> list[Note]:
    """In place: an image that lies in several class folders is one row with all of their labels. Rows are the same
    image where their bytes are equal; the first one's name stays."""
    joined = 0
    for split, its in rows.items():
        gone: set[int] = set()
        for group in equal_rows([row for row, _ in its], reader):
            first, *others = group
            its[first] = (its[first][0], tuple(map(max, *(its[place][1] for place in group))))
            gone.update(others)
            joined += 1
        rows[split] = [each for place, each in enumerate(its) if place not in gone]
    if not joined:
        return []
    return [Note(f"{count(joined, 'image')} found in several class folders, with all of their labels")]


def _truth_of(cell: Cell) -> float | str:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    return _TRUTH.get(str(cell).strip().casefold(), f"{str(cell)!r} is neither 0 nor 1")


def marks_in(cells: Sequence[RawLabel], names: tuple[str, ...]) -> int:
    """How many labels lists of 0 and 1 mark, one each, as a classifier's targets are written; 0: they are none such."""
    lists = [cell for cell in cells if isinstance(cell, tuple) and not isinstance(cell, Cells)]
    if not lists or len(lists) < len(cells) or len({len(each) for each in lists}) > 1 or len(lists[0]) < 2:
        return 0
    only = all(str(mark) in _MARKS for each in lists for mark in each)
    as_before = names == tuple(map(str, range(len(lists[0]))))  # few rows may repeat no mark
    return len(lists[0]) if only and (as_before or any(len(set(each)) < len(each) for each in lists)) else 0


def _of_marks(cell: Cell) -> Cell:
    return tuple(place for place, mark in enumerate(cell) if _MARKS[str(mark)]) if isinstance(cell, tuple) else cell


def _labels_of(cell: Cell, label_names: tuple[str, ...] | None, separator: str | None) -> frozenset[str] | None:
    if cell is None:
        return None
    if isinstance(cell, tuple):
        parts: Sequence[str | int] = cell
    elif isinstance(cell, str) and separator is not None:
        parts = [part.strip() for part in cell.split(separator) if part.strip()]
    else:
        parts = (cell,) if not isinstance(cell, str) or cell.strip() else ()
    if label_names is None:
        return frozenset(plain(text_of(part)).strip() for part in parts)
    known = {str(place): name for place, name in enumerate(label_names)} | {name: name for name in label_names}
    return frozenset(known.get(str(part), str(part)) for part in parts)
