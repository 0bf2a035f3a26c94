"""Rows of the tables that name image files: which columns, which splits, and where the files are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.cells import group_id, locate, name_below, raw_labels
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow, file_row, listing
from hf_finetune.data.sources.split_names import is_meant, is_training, split_of_blanks
from hf_finetune.data.sources.tables.files import TRIED, TableFiles, folder_nearby
from hf_finetune.data.sources.tables.splits_by_folder import split_by_folder
from hf_finetune.data.sources.tables.table import Table, read_table, suffix_of
from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.types import Note

LOOKED_AT = 200  # values of a column that tell whether it holds paths


@dataclass(frozen=True)
class Opened:
    """A table with what its columns may be used for, and the place of its files."""

    table: Table
    kinds: Mapping[str, columns.Kind]
    files: TableFiles

    def values(self, column: str) -> list[str]:
        """The distinct values of a column as text, in order."""
        texts = (_text(record.get(column)) for record in self.table.records)
        return list(dict.fromkeys(text for text in texts if text is not None))

    def find(self, config: Data, *, needs_label: bool = True) -> columns.Columns:
        """The columns to use. Raises DataError, which offers a folder where the files of a column lie elsewhere."""
        try:
            return columns.find(self.kinds, config, str(self.table.path), self.values, needs_label=needs_label)
        except DataError as error:
            self._offer_folder(config, error)
            raise

    def find_image(self, config: Data) -> str:
        """The column of the files' names alone. Raises DataError as `find` does."""
        try:
            return columns.find_image(self.kinds, config, str(self.table.path))
        except DataError as error:
            self._offer_folder(config, error)
            raise

    def _offer_folder(self, config: Data, error: DataError) -> None:
        if "path" in self.kinds.values() or config.image_column is not None or config.image_folder is not None:
            return
        for name, kind in self.kinds.items():
            cells = self.values(name)[:TRIED] if kind in ("text", "whole") else []
            if (folder := folder_nearby(self.table.path, cells)) is not None:
                raise DataError(
                    f"data.image_column: no column of {self.table.path} names files beside it; those that {name!r} "
                    f"names are in {folder}",
                    f"set data.image_column={name} data.image_folder={folder}",
                ) from error


def open_table(path: Path, config: Data, split: str | None = None, *, deep: bool = False) -> Opened:
    """Reads a table whole; one that stands for a split that is not for training may have no label.

    `deep`: the files may lie in any folder below the table's. Raises DataError where it is none.
    """
    table = read_table(path, least_columns=2 if trains(split, config) else 1)
    files = TableFiles(path, config, deep=deep)
    return Opened(table, _kinds(table, files), files)


def read_tables(tables: Sequence[tuple[Opened, str | None]], root: Path, config: Data, *, name: str) -> Source:
    """The rows of tables, each with the split that it stands for, or None where a column or the folders may say it.

    Paths are relative to each table's folder, or to `data.image_folder`; row names are relative to `root`. Raises
    DataError.
    """
    splits: dict[str, list[SourceRow]] = {}
    rejected: list[SourceRejected] = []
    notes: dict[Note, None] = {}
    has_splits = any(split for _, split in tables)
    stamps: list[str] = []
    described: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    label_columns: tuple[str, ...] = ()
    for opened, fixed in tables:
        table, path = opened.table, opened.table.path
        if fixed is not None and is_meant(fixed, config.ignore_splits):
            left_out[fixed] = len(table.records)
            continue
        found = _columns(opened, fixed, config)
        notes.update(dict.fromkeys(found.notes))
        label_columns = label_columns or found.labels
        has_splits |= fixed is None and found.split is not None
        described.setdefault(found.described(), []).append(name_below(str(root), str(path)))
        stat = path.stat()
        stamps.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
        for line, reason in table.ragged:
            rejected.append(SourceRejected(f"{path.name} line {line}", fixed or "train", reason))
        blank = split_of_blanks(opened.values(found.split)) if found.split else ""
        for record, line in zip(table.records, table.lines, strict=True):
            split = fixed or ((_text(record.get(found.split)) or "").strip() or blank if found.split else "train")
            row = _row(record, found, opened.files, path, root, line)
            if not split:
                rejected.append(SourceRejected(f"{path.name} line {line}", "train", "no split"))
            elif isinstance(row, SourceRow):
                splits.setdefault(split, []).append(row)
            else:
                splits.setdefault(split, [])
                rejected.append(SourceRejected(row[0], split, row[1]))
    _refuse_all_missing(tables, splits, rejected, config, name)
    by_folder = "" if has_splits else split_by_folder(splits, rejected, config)
    texts = [f"table {listing(names)}: {columns_text}" for columns_text, names in described.items()]
    return Source(
        name,
        splits,
        FileReader(),
        has_splits or bool(by_folder),
        rejected=tuple(rejected),
        notes=tuple(notes),
        stamp="\n".join(stamps),
        layout="; ".join(texts) + by_folder,
        label_columns=label_columns,
        left_out=left_out,
    )


def _columns(opened: Opened, fixed: str | None, config: Data) -> columns.Columns:
    """The columns of one table; one that is not for training may have no label."""
    if trains(fixed, config):
        return opened.find(config)
    try:
        return opened.find(config, needs_label=False)
    except DataError as error:
        wanted = f"column {' and '.join(map(repr, config.label_columns))}" if config.label_columns else "a label column"
        raise DataError(
            f"data.label_column: {wanted} is expected in {opened.table.path}, found {', '.join(opened.kinds)}",
            f"rename the column in that file, or leave the split out by data.ignore_splits=[{fixed}]",
        ) from error


def trains(fixed: str | None, config: Data) -> bool:
    """Whether a table is for training, by the split that it stands for."""
    return fixed is None or is_training(fixed, config.train_split)


def _kinds(table: Table, files: TableFiles) -> dict[str, columns.Kind]:
    kinds: dict[str, columns.Kind] = {}
    for name in table.header:
        values = _first(table, name)
        if values and all(isinstance(value, list) for value in values):
            items = [item for value in values for item in value]
            kinds[name] = "list" if all(isinstance(item, str | int) for item in items) else "other"
        elif all(isinstance(value, str) for value in values):
            is_path = bool(values) and all(suffix_of(value) in IMAGE_SUFFIXES for value in values)
            kinds[name] = "path" if is_path else "text"
        elif all(isinstance(value, str | int) or (isinstance(value, float) and value.is_integer()) for value in values):
            kinds[name] = "whole"
        else:
            kinds[name] = "number" if all(isinstance(value, int | float) for value in values) else "other"
    if "path" not in kinds.values():  # names without a suffix, where files show that they are names
        for name, kind in kinds.items():
            cells = [str(value) for value in _first(table, name)[:TRIED]]
            if kind in ("text", "whole") and files.holds_all(cells):
                kinds[name] = "path"
    return kinds


def _first(table: Table, name: str) -> list[Any]:
    values = [value for record in table.records[: 5 * LOOKED_AT] if (value := record.get(name)) not in (None, "")]
    return values[:LOOKED_AT]


def _row(
    record: Mapping[str, Any], found: columns.Columns, files: TableFiles, table: Path, root: Path, line: int
) -> SourceRow | tuple[str, str]:
    """The row, or (name, reason) where it cannot be used."""
    path = _text(record.get(found.image))
    if not path or not path.strip():
        return f"{table.name} line {line}", "no path"
    file = locate(path, files.folder)
    try:
        if not os.path.exists(file):  # noqa: PTH110 (a Path per row doubles the time)
            file = files.find(path)
        stat = os.stat(file)  # noqa: PTH116
    except (OSError, ValueError) as error:
        reason = "file not found" if isinstance(error, FileNotFoundError) else f"file cannot be read: {error}"
        return _name(file, root, files), reason
    label = raw_labels([record.get(name) for name in found.labels])
    group = group_id(record.get(found.group)) if found.group else None
    return file_row(_name(file, root, files), label, file, stat, group)


def _name(file: str, root: Path, files: TableFiles) -> str:
    """The path below `root`, else below the folder of the files, else the whole path."""
    below = name_below(str(root), file)
    return name_below(str(files.folder), file) if below == file else below


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _refuse_all_missing(
    tables: Sequence[tuple[Opened, str | None]],
    splits: Mapping[str, list[SourceRow]],
    rejected: Sequence[SourceRejected],
    config: Data,
    name: str,
) -> None:
    if any(splits.values()):
        return
    why = f"; {one_line(f'{rejected[0].name}: {rejected[0].reason}')}" if rejected else ""
    raise DataError(
        f"data.name: rows whose image files exist are expected in {name}, found none of {len(rejected):,}{why}",
        _where_files_are(tables, config),
    )


def _where_files_are(tables: Sequence[tuple[Opened, str | None]], config: Data) -> str:
    if config.image_folder is not None:
        return f"paths are taken relative to data.image_folder, {tables[0][0].files.folder}"
    for opened, _ in tables:
        column = opened.find(config, needs_label=False).image
        if (folder := folder_nearby(opened.table.path, opened.values(column))) is not None:
            return f"paths are taken relative to the folder of the table; did you mean data.image_folder={folder}?"
    return "paths are taken relative to the folder of the table, or to data.image_folder"
