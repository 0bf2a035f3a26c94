"""Corrections of a dataset, written down by a person or by `hf-finetune doctor`: rows to leave out, and other labels.

Owns the table's form and what it does to a source; no file of the dataset is touched.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hf_finetune.data.index.label_sets import marks_in
from hf_finetune.data.index.label_values import is_number
from hf_finetune.data.sources.cells import is_missing, json_list
from hf_finetune.data.sources.source import Cells, RawLabel, Source, SourceRow, count, listing, plain
from hf_finetune.errors import DataError
from hf_finetune.labels import Reading
from hf_finetune.report.predicted.columns import text_of_cell
from hf_finetune.types import Note

Action = Literal["keep", "exclude", "relabel"]
ACTIONS: tuple[Action, ...] = ("keep", "exclude", "relabel")
# The first five columns of the table; a reader needs path and action, and label where a row is relabelled.
COLUMNS = ("path", "finding", "score", "action", "label")
_SHOWN = 5


@dataclass(frozen=True)
class Correction:
    """What becomes of the row named `path`, as line `line` of the table says; `label`: its new one, as text."""

    path: str
    action: Action
    label: str
    line: int


def read_corrections(path: Path, key: str = "data.corrections", *, blanks: bool = False) -> list[Correction]:
    """Every line of a table of corrections, those that keep their row too. `key`: what names the table; `blanks`: a
    relabelled row may lack its label still.

    Raises DataError for a table that cannot be read, has not these columns, or says something that is no action.
    """
    reader = csv.DictReader(io.StringIO(_text(path, key)), delimiter=_delimiter(path))
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    if lacking := [name for name in ("path", "action") if name not in header]:
        raise DataError(
            f"{key}: the columns {', '.join(COLUMNS)} are expected in {path}, found no {' and no '.join(lacking)} "
            f"among {listing(header) or 'none'}",
            "`hf-finetune doctor` writes such a table",
        )
    found = []
    for cells in reader:
        if not any(isinstance(cell, str) and cell.strip() for cell in cells.values()):
            continue
        found.append(_correction(cells, reader.line_num, path, key, blanks=blanks))
    return found


def _text(path: Path, key: str) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")  # a spreadsheet may have put a byte order mark there
    except OSError as error:
        raise DataError(
            f"{key}: a table of corrections is expected at {path}, which cannot be read: {error.strerror or error}",
            "`hf-finetune doctor` writes one, findings.csv",
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{key}: UTF-8 is expected in {path}, found other bytes", "save the table as CSV in UTF-8"
        ) from error


def _delimiter(path: Path) -> str:
    """What a spreadsheet of this country puts between cells: `;` where commas are decimal."""
    with path.expanduser().open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    return max(",;\t", key=first.count)


def _correction(cells: Mapping[str, str | None], line: int, path: Path, key: str, *, blanks: bool) -> Correction:
    name, action = text_of_cell("path", cells.get("path") or ""), (cells.get("action") or "").strip().lower() or "keep"
    label = text_of_cell("label", (cells.get("label") or "").strip())
    if action not in ACTIONS:
        close = difflib.get_close_matches(action, ACTIONS, n=1)
        raise DataError(
            f"{key}: an action {', '.join(ACTIONS)} is expected in {path}, line {line}, found {action!r}",
            f"did you mean {close[0]}?" if close else "an empty one keeps the row",
        )
    if action == "relabel" and not label and not blanks:
        raise DataError(
            f"{key}: a label is expected in {path}, line {line}, since {name} is relabelled, found none",
            "write it into the column label, or set the action to keep",
        )
    return Correction(name, action, label, line)


def corrected(source: Source, written: str | None, reading: Reading, key: str = "data.corrections") -> Source:
    """The source with the table at `written` applied (None: as it is), and a note on what that changed. `reading`: how
    its labels are read, which says whether one text holds several.

    A row that a line excludes is excluded, whatever others say. Raises DataError for rows that the source has
    not, for labels that none of its rows has, and for two labels of one row.
    """
    if written is None:
        return source
    path = Path(written)
    wanted = [each for each in read_corrections(path, key) if each.action != "keep"]
    names = {row.name for rows in source.splits.values() for row in rows} | {row.name for row in source.rejected}
    refuse_unknown_rows([each for each in wanted if each.path not in names], names, source.name, path, key)
    excluded = {each.path for each in wanted if each.action == "exclude"}
    relabelled = one_label_each([each for each in wanted if each.path not in excluded], path, key)
    labels = _Labels.of(source, reading, path, key)
    changed = 0
    splits: dict[str, list[SourceRow]] = {}
    for split, rows in source.splits.items():
        kept = splits[split] = []
        for row in rows:
            if row.name in excluded:
                continue
            if (new := relabelled.get(row.name)) is not None:
                label = labels.read(new, row)
                changed += label != row.label
                row = replace(row, label=label)
            kept.append(row)
    rejected = tuple(row for row in source.rejected if row.name not in excluded)
    said = f"corrections: {count(len(excluded), 'row')} left out, {count(changed, 'label')} changed"
    return replace(source, splits=splits, rejected=rejected, notes=(*source.notes, Note(said, str(path))))


def refuse_unknown_rows(
    unknown: Sequence[Correction], names: Collection[str], source: str, path: Path, key: str
) -> None:
    """Raises DataError where there are lines that name no row of `source`, which has these names."""
    if not unknown:
        return
    first = unknown[0]
    close = difflib.get_close_matches(first.path, list(names)[:20_000], n=1, cutoff=0.8)
    lines = listing([f"{each.path!r} (line {each.line})" for each in unknown], _SHOWN)
    raise DataError(
        f"{key}: rows of {source} are expected in {path}, found {count(len(unknown), 'line')} that name none: {lines}",
        (f"did you mean {close[0]!r}? " if close else "") + "Rows are named as hf-finetune doctor names them: files by "
        "their path below the dataset's folder",
    )


def one_label_each(wanted: Sequence[Correction], path: Path, key: str) -> dict[str, Correction]:
    """By the name of the row. Raises DataError for two labels of one row."""
    found: dict[str, Correction] = {}
    for each in wanted:
        before = found.setdefault(each.path, each)
        if before.label != each.label:
            raise DataError(
                f"{key}: one label is expected for {each.path} in {path}, found {before.label!r} (line {before.line}) "
                f"and {each.label!r} (line {each.line})",
                "set the action of one of them to keep",
            )
    return found


@dataclass(frozen=True)
class _Labels:
    """The labels that the source's rows have, to read new ones by."""

    names: tuple[str, ...] | None  # of a source that numbers its classes
    known: frozenset[str]  # texts
    numbers: bool  # whether all of those are numbers, so that another one may be meant
    sets: bool  # whether a row has any number of labels
    separator: str | None  # what stands between those in one text
    marks: int  # how many labels lists of 0 and 1 mark, one each; 0: there are no such lists
    path: Path
    key: str

    @classmethod
    def of(cls, source: Source, reading: Reading, path: Path, key: str) -> _Labels:
        given = [row.label for rows in source.splits.values() for row in rows]
        texts = {plain(str(cell)) for label in given for cell in _single(label) if not is_missing(cell)}
        if reading.separator is not None:
            texts = {part.strip() for text in texts for part in text.split(reading.separator) if part.strip()}
        known, sets = frozenset(texts), reading.kind == "labels"
        marks = marks_in([label for label in given if label is not None], reading.names)
        numbers = all(map(is_number, known))
        return cls(source.label_names, known, numbers, sets, reading.separator, marks, path, key)

    def read(self, correction: Correction, row: SourceRow) -> RawLabel:
        """The label of a corrected row, as its source would give it; any number of labels as a list, which is read
        beside rows with a text too."""
        if not isinstance(row.label, tuple) and not self.sets:
            return self._one(correction.label, correction)
        values = json_list(correction.label)
        if values is None and self.sets and not isinstance(row.label, Cells):
            parts = correction.label.split(self.separator) if self.separator else [correction.label]
            return tuple(self._one(each.strip(), correction) for each in parts if each.strip())
        if not isinstance(values, list) or (isinstance(row.label, Cells) and len(values) != len(row.label)):
            shown = f"a list of {len(row.label)}" if isinstance(row.label, Cells) else "a list"
            now = row.label if isinstance(row.label, tuple) else (row.label,)
            example = json.dumps(list(now), ensure_ascii=False)
            raise DataError(
                f"{self.key}: {shown} is expected as the label in {self.path}, line {correction.line}, found "
                f"{correction.label!r}",
                f"write it as JSON, as the row has it now: {example}",
            )
        if isinstance(row.label, Cells):
            return Cells(tuple(each) if isinstance(each, list) else each for each in values)
        if self.marks:
            return self._marked(values, correction)
        return tuple(self._one(str(each), correction) for each in values)

    def _marked(self, values: Sequence[Any], correction: Correction) -> tuple[int, ...]:
        """A list of 0 and 1, as the others are written: from such a list, or from the names of what it marks, which are
        texts."""
        names = list(map(str, range(self.marks)))
        if len(values) == self.marks and all(each in (0, 1) for each in values):
            return tuple(map(int, values))
        if all(isinstance(each, str) and each in names for each in values):
            return tuple(int(name in values) for name in names)
        raise DataError(
            f"{self.key}: a list of {self.marks} marks 0 and 1 is expected as the label in {self.path}, line "
            f"{correction.line}, found {correction.label!r}",
            f"write it as {json.dumps([int(not place) for place in range(self.marks)])}",
        )

    def _one(self, label: str, correction: Correction) -> str | int:
        label = plain(label)
        if self.names is not None:
            if label in self.names:
                return self.names.index(label)
        elif label in self.known or (self.numbers and is_number(label)):
            return label
        known = sorted(self.names if self.names is not None else self.known)
        close = difflib.get_close_matches(label, known, n=1)
        raise DataError(
            f"{self.key}: a label of the dataset is expected in {self.path}, line {correction.line}, found {label!r}",
            f"did you mean {close[0]!r}?" if close else f"there are {listing(map(repr, known))}",
        )


def _single(label: RawLabel) -> list[str | int]:
    """The labels in a cell, those in lists too; none of several columns, whose cells are taken as they are."""
    if isinstance(label, Cells) or label is None:
        return []
    return list(label) if isinstance(label, tuple) else [label]
