"""The label of one row as a person writes it into a table of corrections, in the terms of a finished run.

Owns how a text is read once the labels are known: `targets.py` reads whole datasets, whose labels are not known yet.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_finetune.data.index.label_values import folded
from hf_finetune.data.index.numbers import commas_are_decimal, number_of
from hf_finetune.data.sources.cells import json_list
from hf_finetune.data.sources.source import listing, plain
from hf_finetune.errors import DataError
from hf_finetune.labels import Label, LabelColumn, Reading

logger = logging.getLogger(__name__)


@dataclass
class WrittenLabels:
    """Reads labels by the run's columns; `new` are classes that were not known, in the order in which they were met,
    taken where `take_new` says so and the run has one class a row. `join_alike`: whether names that differ only in case
    or blanks are one class, as in the run's own data."""

    columns: Sequence[LabelColumn]
    reading: Reading
    take_new: bool = False
    join_alike: bool = False
    new: list[str] = field(default_factory=list)

    @property
    def of_classes(self) -> bool:
        """Whether each row has one class, so that another class can be added."""
        return len(self.columns) == 1 and self.columns[0].kind == "classes"

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the first column, and the new ones."""
        return (*self.columns[0].names, *self.new)

    def read(self, text: str, where: str) -> Label:
        """The label as rows have it. Raises DataError, which says `where` the text stands."""
        if len(self.columns) == 1:
            own = self._one(text, self.columns[0], self.reading, where)
            return int(own[0]) if self.columns[0].kind in ("classes", "grades") else own
        cells = json_list(text)
        if cells is None or len(cells) != len(self.columns):
            names = ", ".join(column.name for column in self.columns)
            raise DataError(
                f"{where}: a JSON list with a label for each of {names} is expected, found {text!r}",
                'write it as [1.5, "dark", null], null where a label is not known',
            )
        found: list[float] = []
        for cell, column in zip(cells, self.columns, strict=True):
            reading = self.reading.columns.get(column.name, Reading())
            if cell is None:
                found += [math.nan] * column.width
            else:
                written = json.dumps(cell) if isinstance(cell, list) else str(cell)
                found += self._one(written, column, reading, f"{where}, {column.name}")
        return tuple(found)

    def class_of(self, name: str, where: str) -> int:
        """The id of a class by its name, a new one where that may be. Raises DataError."""
        wanted = plain(name).strip()
        if wanted in self.names:
            return self.names.index(wanted)
        alike = {folded(each): each for each in reversed(self.names)}.get(folded(wanted))
        if alike is not None and self.join_alike:
            return self.names.index(alike)
        if self.take_new and self.of_classes:
            if alike is not None:
                logger.warning("%s: the new class %r differs from %r only in case or blanks.", where, wanted, alike)
            self.new.append(wanted)
            return len(self.names) - 1
        raise self._unknown(wanted, self.names, where)

    def _one(self, text: str, column: LabelColumn, reading: Reading, where: str) -> tuple[float, ...]:
        if column.kind == "numbers":
            return self._numbers(text, column, where)
        if column.kind == "labels":
            return self._label_set(text, column, reading, where)
        if column is self.columns[0] and self.of_classes:
            return (self.class_of(text, where),)
        wanted = plain(text).strip()
        if wanted not in column.names:
            raise self._unknown(wanted, column.names, where)
        return (float(column.names.index(wanted)),)

    def _label_set(self, text: str, column: LabelColumn, reading: Reading, where: str) -> tuple[float, ...]:
        cells = json_list(text)
        if cells is None:
            separator = reading.separator
            cells = [each for each in text.split(separator) if each.strip()] if separator else [text]
        if (column.of_columns or column.of_places) and _are_marks(cells, column.width):
            return tuple(math.nan if each is None else float(each) for each in cells)
        wanted = [plain(str(each)).strip() for each in cells]
        for name in wanted:
            if name not in column.names:
                raise self._unknown(name, column.names, where)
        return tuple(float(name in wanted) for name in column.names)

    def _numbers(self, text: str, column: LabelColumn, where: str) -> tuple[float, ...]:
        cells = [text] if column.width == 1 else json_list(text)
        if cells is None or len(cells) != column.width:
            raise DataError(f"{where}: a JSON list of {column.width} numbers is expected, found {text!r}")
        numbers = [number_of(None if each is None else str(each), comma=commas_are_decimal([str(each)]))
                   for each in cells]  # fmt: skip
        for number in numbers:
            if isinstance(number, str):
                raise DataError(f"{where}: a number is expected as the label, found that {number}")
        found = tuple(each for each in numbers if not isinstance(each, str))
        if all(map(math.isnan, found)):
            raise DataError(f"{where}: a number is expected as the label, found {text!r}")
        return found

    def _unknown(self, name: str, names: Sequence[str], where: str) -> DataError:
        alike = [each for each in names if folded(each) == folded(name)]
        close = alike or difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {listing(map(repr, names))}"
        if self.of_classes:
            hint += f"{'' if close else '.'} A class that the run does not know is learnt with --new-classes"
        return DataError(f"{where}: a label of the run is expected, found {name!r}", hint)


def _are_marks(cells: Sequence[Any], width: int) -> bool:
    """Whether they say 0 or 1 of each of so many labels, in a list or in columns; None is not known."""
    return (
        len(cells) == width
        and all(each is None or each in (0, 1) for each in cells)
        and any(each is not None for each in cells)
    )
