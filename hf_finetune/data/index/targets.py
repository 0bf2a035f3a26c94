"""What the labels of a dataset are, and the rows with them: one of several classes, any number of labels, numbers,
grades, or several of these, a column each.

Owns the choice where the recipe leaves it to the data, and what joins several columns; each kind is encoded by a module
of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hf_finetune.data.config import Data
from hf_finetune.data.index import label_values, labels
from hf_finetune.data.index.grades import encode_grades
from hf_finetune.data.index.label_sets import encode_label_sets, join_equal
from hf_finetune.data.index.numbers import encode_numbers, tenths
from hf_finetune.data.sources.source import Cells, Source, SourceRow, count, listing
from hf_finetune.errors import DataError
from hf_finetune.labels import Label, LabelColumn, Labels, Reading
from hf_finetune.types import Note, Rejected, Split

Labelled = tuple[SourceRow, Label]
Found = Mapping[Split, list[SourceRow]]
_TASK_KEY = re.compile(r"(?<![\w./\\-])task\.(?=[a-z])")  # and no file called so


@dataclass(frozen=True)
class Encoded:
    """`columns`: one, but of several targets. `rows`: with their labels; `rejected`: those that have none."""

    columns: tuple[LabelColumn, ...]
    rows: Mapping[Split, Sequence[Labelled]]
    rejected: list[Rejected]
    notes: list[Note]
    found: Found  # the rows as they are meant, by which the dataset is known

    @property
    def labels(self) -> Labels:
        """The names of the one column; of several none."""
        return Labels(self.columns[0].names if len(self.columns) == 1 else ())

    def strata(self, rows: Sequence[Labelled]) -> tuple[list[int], tuple[str, ...]]:
        """By what a cut of these rows is balanced."""
        return strata(self.columns[0], [label for _, label in rows])


def strata(column: LabelColumn, labels: Sequence[Label]) -> tuple[list[int], tuple[str, ...]]:
    """By what rows with these labels are balanced, of the first target: a number a row, and the numbers' names."""
    if column.kind in ("classes", "grades"):
        own = [label if isinstance(label, int) else label[0] for label in labels]
        return [len(column.names) if math.isnan(each) else int(each) for each in own], (*column.names, "none")
    of_all = [label[: column.width] for label in labels if not isinstance(label, int)]
    if column.kind == "numbers":
        return tenths(each[0] for each in of_all), tuple(f"tenth {number}" for number in range(1, 11))
    sizes = Counter(place for each in of_all for place, truth in enumerate(each) if truth == 1)
    rarest = [
        min((place for place, truth in enumerate(each) if truth == 1), key=lambda place: (sizes[place], place),
            default=column.width)
        for each in of_all
    ]  # fmt: skip
    return rarest, (*column.names, "none")


def encode(found: Found, source: Source, config: Data, reading: Reading) -> Encoded:
    """Raises DataError with a question where the labels could be meant in two ways."""
    if reading.columns:
        return _encode_several(found, source, config, reading)
    kind, notes = _kind_of(found, source, config, reading)
    column = ", ".join(source.label_columns)
    if kind == "numbers":
        names = source.label_columns or ("value",)
        numbered, rejected = encode_numbers(found, len(names), log=reading.log)
        return Encoded((LabelColumn(column, "numbers", names),), numbered, rejected, notes, found)
    if kind == "labels":
        names, sets, rejected = encode_label_sets(found, source.label_names, source.label_columns, reading)
        if reading.separator is None and not source.classes_given:
            notes += label_values.looks_like_several(row.label for rows in found.values() for row in rows)
        if source.classes_given:
            notes = [*notes, *join_equal(sets, source.reader)]
        return Encoded((LabelColumn(column, "labels", names),), sets, rejected, notes, found)
    if kind == "grades":
        names, graded, rejected = encode_grades(found, source.label_names, reading.names, "task.order")
        return Encoded((LabelColumn(column, "grades", names),), graded, rejected, notes, found)
    settled, more = label_values.settle(found, source, config)
    known, rows, rejected = labels.encode(settled, source.label_names, reading.names)
    if source.label_names is None and not source.classes_given:
        more += label_values.looks_like_several(row.label for its in settled.values() for row in its)
    return Encoded((LabelColumn(column, "classes", known.names),), rows, rejected, [*notes, *more], settled)


def check(encoded: Encoded, source: str) -> list[Note]:
    """Notes on what splits lack. Raises DataError where training cannot begin with these labels."""
    notes: list[Note] = []
    for place, column in enumerate(encoded.columns):
        at = sum(each.width for each in encoded.columns[:place])
        own: dict[Split, list[tuple[float, ...]]] = {
            split: [_own(label, at, column) for _, label in rows] for split, rows in encoded.rows.items()
        }
        if column.kind == "classes":
            of_column: dict[Split, list[labels.Labelled]] = {
                split: [(row, int(each[0])) for (row, _), each in zip(encoded.rows[split], its, strict=True)
                        if not math.isnan(each[0])]
                for split, its in own.items()
            }  # fmt: skip
            where = source if len(encoded.columns) == 1 else f"{source}, column {column.name}"
            notes += labels.check_between_splits(Labels(column.names), of_column, where)
        elif column.kind == "labels":
            notes += _check_label_sets(column, own)
        elif column.kind == "grades":
            there = {each[0] for each in own["train"]}
            if absent := [name for number, name in enumerate(column.names) if number not in there]:
                notes.append(Note(f"train has no row of {count(len(absent), 'grade')}: {listing(absent)}"))
            if len(there - {math.nan}) < 2:
                raise DataError(
                    f"data.name: at least two grades are needed in the training split of {source}, found {len(there)}",
                    "check data.label_column and task.order",
                )
        lacking = sum(any(map(math.isnan, each)) for its in own.values() for each in its)
        if lacking:
            notes.append(Note(f"{count(lacking, 'row')} without {column.name}, used for what they have"))
    return notes


def _own(label: Label, at: int, column: LabelColumn) -> tuple[float, ...]:
    return (float(label),) if isinstance(label, int) else label[at : at + column.width]


def _check_label_sets(column: LabelColumn, own: Mapping[Split, Sequence[tuple[float, ...]]]) -> list[Note]:
    notes: list[Note] = []
    for split, its in own.items():
        there = {place for each in its for place, truth in enumerate(each) if truth == 1}
        if absent := [name for place, name in enumerate(column.names) if place not in there]:
            cannot = ", so that they cannot be learnt" if split == "train" else ""
            notes.append(Note(f"{split} has no row with {count(len(absent), 'label')}{cannot}: {listing(absent)}"))
        if split == "train" and not there:
            raise DataError(
                "data.label_column: rows with a label are expected in train, found none",
                "check data.label_column, and task.separator where one text holds several labels",
            )
    return notes


def _kind_of(found: Found, source: Source, config: Data, reading: Reading) -> tuple[str, list[Note]]:
    """What the labels are, and a note where that was not said and is not classes."""
    several = len(source.label_columns) > 1
    if reading.kind is not None:
        if several and reading.kind in ("classes", "grades"):
            raise DataError(
                f"data.label_column: one column is expected of {reading.kind}, found {listing(source.label_columns)}",
                "name one, or set task.kind=several with a target for each",
            )
        return reading.kind, []
    if several:
        return _kind_of_columns(found, source)
    if any(isinstance(row.label, tuple) for rows in found.values() for row in rows):
        return "labels", [Note("labels are lists: each image has any number of them (task.kind=multilabel)")]
    if label_values.are_quantities(found, source, config):
        said = "labels are numbers with fractions and are learnt as such (task.kind=regression)"
        return "numbers", [Note(f"{said}; task.kind=classification takes each value as a class")]
    return "classes", []


def _kind_of_columns(found: Found, source: Source) -> tuple[str, list[Note]]:
    cells = [cell for rows in found.values() for row in rows if isinstance(row.label, Cells) for cell in row.label]
    texts = {str(cell).strip().casefold() for cell in cells if cell is not None} - {""}
    shown = listing(source.label_columns)
    if texts <= {"0", "1", "0.0", "1.0", "true", "false"}:
        return "labels", [Note(f"columns {shown} say 0 or 1: any number of labels an image (task.kind=multilabel)")]
    if all(label_values.is_number(text) for text in texts):
        return "numbers", [Note(f"columns {shown} hold numbers and are learnt as such (task.kind=regression)")]
    raise DataError(
        f"data.label_column: columns of 0 and 1 or of numbers are expected where there are several, found {shown} with "
        f"{listing(sorted(texts), 3)}",
        "set task.kind=several with a target for each column, or name one column",
    )


def _encode_one_of_several(name: str, found: Found, source: Source, config: Data, reading: Reading) -> Encoded:
    """With the target's own keys in what is said of it."""

    def own(text: str) -> str:
        return _TASK_KEY.sub(lambda _: f"task.targets.{name}.", text)

    try:
        encoded = encode(found, replace(source, name=f"{source.name}, column {name}"), config, reading)
    except DataError as error:
        raise DataError(own(error.message), own(error.hint)) from None
    return replace(encoded, notes=[replace(note, text=f"{name}: {own(note.text)}") for note in encoded.notes])


def _encode_several(found: Found, source: Source, config: Data, reading: Reading) -> Encoded:
    """Each column by itself; a row is kept where one of its targets is known."""
    if missing := [name for name in reading.columns if name not in source.label_columns]:
        raise DataError(
            f"task.targets: columns of {source.name} are expected, found {listing(missing)}",
            f"name some of {listing(source.label_columns, 20)}",
        )
    parts: list[Encoded] = []
    for name, its in reading.columns.items():
        place = source.label_columns.index(name)
        one = replace(source, label_columns=(name,), label_names=None)
        # By their places, since a table may have an image twice.
        alone: dict[Split, list[SourceRow]] = {
            split: [
                replace(row, name=str(number), label=row.label[place] if isinstance(row.label, Cells) else row.label)
                for number, row in enumerate(rows)
            ]
            for split, rows in found.items()
        }
        parts.append(_encode_one_of_several(name, alone, one, config, its))
    columns = tuple(replace(each.columns[0], name=name) for name, each in zip(reading.columns, parts, strict=True))
    rows: dict[Split, list[Labelled]] = {}
    rejected: list[Rejected] = []
    for split, its in found.items():
        known = [{row.name: label for row, label in part.rows[split]} for part in parts]
        reasons = {each.name: each.reason for part in parts for each in part.rejected if each.split == split}
        kept = rows[split] = []
        for number, row in enumerate(its):
            label: list[float] = []
            for column, by_place in zip(columns, known, strict=True):
                one_label = by_place.get(str(number))
                if one_label is None:
                    label += [math.nan] * column.width
                else:
                    label += [float(one_label)] if isinstance(one_label, int) else one_label
            if all(map(math.isnan, label)):
                rejected.append(Rejected(row.name, split, reasons.get(str(number), labels.NO_LABEL)))
            else:
                kept.append((row, tuple(label)))
    return Encoded(columns, rows, rejected, [note for part in parts for note in part.notes], found)
