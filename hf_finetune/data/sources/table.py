"""CSV, TSV and JSON Lines tables that name image files, and `metadata` tables inside a folder.

Every CSV value stays the text that is written: nothing is parsed as a number or as missing; only blank is missing.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.cells import locate, name_below, raw_label
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow
from hf_finetune.errors import DataError

LOOKED_AT = 200  # values of a column that tell whether it holds paths


@dataclass(frozen=True)
class Table:
    """A table read whole, as written. `lines[i]` is where record i stands in the file, for messages."""

    path: Path
    header: tuple[str, ...]
    records: list[Mapping[str, Any]]
    lines: list[int]
    ragged: list[tuple[int, str]]  # (line, what is wrong)


def read_tables(tables: Sequence[tuple[Path, str | None]], root: Path, config: Data, *, name: str) -> Source:
    """The rows of tables, each with the split that it stands for, or None where a `split` column may say it.

    Paths are relative to each table's folder; row names are relative to `root`. Raises DataError.
    """
    splits: dict[str, list[SourceRow]] = {}
    rejected: list[SourceRejected] = []
    has_splits = any(split for _, split in tables)
    stamps = []
    for path, fixed in tables:
        table = _read(path)
        found = columns.find(_kinds(table), config, str(path))
        has_splits |= fixed is None and found.split is not None
        stat = path.stat()
        stamps.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
        for line, reason in table.ragged:
            rejected.append(SourceRejected(f"{path.name} line {line}", fixed or "train", reason))
        for record, line in zip(table.records, table.lines, strict=True):
            split = fixed or (_text(record.get(found.split)) if found.split else "train")
            row = _row(record, found, path, root, line)
            if split is None or not split.strip():
                rejected.append(SourceRejected(f"{path.name} line {line}", "train", "no split"))
            elif isinstance(row, SourceRow):
                splits.setdefault(split, []).append(row)
            else:
                splits.setdefault(split, [])
                rejected.append(SourceRejected(row[0], split, row[1]))
    _refuse_all_missing(splits, rejected, name)
    return Source(name, splits, FileReader(), has_splits, rejected=tuple(rejected), stamp="\n".join(stamps))


def have_labels(paths: Iterable[Path]) -> bool:
    """Whether every one of these tables has a column with a usual label name."""
    return all(any(name.casefold() in columns.LABEL_NAMES for name in _read(path).header) for path in paths)


def _read(path: Path) -> Table:
    return _read_metadata_parquet(path) if path.suffix.lower() == ".parquet" else read_table(path)


def read_table(path: Path) -> Table:
    """A CSV, TSV or JSON Lines file. Raises DataError where it is not one, is empty, or is not UTF-8."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_jsonl(path, file) if path.suffix.lower() == ".jsonl" else _read_csv(path, file)
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.name: UTF-8 text is expected in {path}, found otherwise at byte {error.start}",
            "save the table as UTF-8 (in Excel: CSV UTF-8)",
        ) from error
    except PermissionError as error:
        raise DataError(f"data.name: no permission to read {path}", "change its permissions") from error
    except csv.Error as error:
        raise DataError(
            f"data.name: a CSV table is expected in {path}, found {error}", "save it as CSV again"
        ) from error


def _read_csv(path: Path, file: Iterable[str]) -> Table:
    lines = iter(file)
    first = next(lines, "")
    # Excel writes semicolons where the comma is the decimal sign.
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    header = tuple(next(reader, ()))
    if len(header) < 2 or "\0" in first:
        raise DataError(
            f"data.name: a table with a header, an image column and a label column is expected in {path}, found "
            + (f"only the column {header[0]!r}" if header and "\0" not in first else "none"),
            "give the first line the column names, separated by commas",
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(
            f"data.name: column names must differ in {path}, found {twice[0]!r} twice", "rename one of them"
        )
    records: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    ragged: list[tuple[int, str]] = []
    for values in reader:
        if len(values) == len(header):
            records.append(dict(zip(header, values, strict=True)))
            numbers.append(reader.line_num)
        elif values:
            ragged.append((reader.line_num, f"{len(header)} values are expected, found {len(values)}"))
    return Table(path, header, records, numbers, ragged)


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _read_jsonl(path: Path, file: Iterable[str]) -> Table:
    records: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    header: dict[str, None] = {}
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"data.name: one JSON object on each line is expected in {path}, found on line {number}: {error.msg}",
                "write one object a line, without commas between the lines",
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"data.name: one JSON object on each line is expected in {path}, found on line {number}: "
                f"{type(record).__name__}",
                'write lines such as {"file_name": "a.jpg", "label": "cat"}',
            )
        records.append(record)
        numbers.append(number)
        header.update(dict.fromkeys(record))
    return Table(path, tuple(header), records, numbers, [])


def _read_metadata_parquet(path: Path) -> Table:
    from hf_finetune.data.sources.parquet import read_small_table

    records = read_small_table(path)
    header = tuple(records[0]) if records else ()
    return Table(path, header, list(records), list(range(len(records))), [])


def _kinds(table: Table) -> dict[str, columns.Kind]:
    kinds: dict[str, columns.Kind] = {}
    for name in table.header:
        values = [value for record in table.records[: 5 * LOOKED_AT] if (value := record.get(name)) not in (None, "")]
        values = values[:LOOKED_AT]
        if all(isinstance(value, str) for value in values):
            is_path = bool(values) and all(_suffix(value) in IMAGE_SUFFIXES for value in values)
            kinds[name] = "path" if is_path else "text"
        elif all(isinstance(value, str | int) for value in values):
            kinds[name] = "whole"
        else:
            kinds[name] = "other"
    return kinds


def _suffix(text: str) -> str:
    return "." + text.rpartition(".")[2].lower()


def _row(
    record: Mapping[str, Any], found: columns.Columns, table: Path, root: Path, line: int
) -> SourceRow | tuple[str, str]:
    """The row, or (name, reason) where it cannot be used."""
    path = _text(record.get(found.image))
    if not path or not path.strip():
        return f"{table.name} line {line}", "no path"
    file = locate(path, table.parent)
    name = name_below(str(root), file)
    try:
        stat = os.stat(file)  # noqa: PTH116 (a Path per row doubles the time)
    except (OSError, ValueError) as error:
        return name, "file not found" if isinstance(error, FileNotFoundError) else f"file cannot be read: {error}"
    label = record.get(found.label)
    return SourceRow(name, raw_label(label), file, stat.st_size, stat.st_mtime_ns)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _refuse_all_missing(splits: Mapping[str, list[SourceRow]], rejected: Sequence[SourceRejected], name: str) -> None:
    if not any(splits.values()):
        why = f"; {rejected[0].name}: {rejected[0].reason}" if rejected else ""
        raise DataError(
            f"data.name: rows whose image files exist are expected in {name}, found none of {len(rejected):,}{why}",
            "paths are taken relative to the folder of the table",
        )
