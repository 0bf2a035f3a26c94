"""CSV, TSV, JSON Lines and small Parquet tables as they are written; `table_rows` makes rows of them.

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

from hf_finetune.data.sources.cells import locate
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.errors import DataError


@dataclass(frozen=True)
class Table:
    """A table read whole, as written. `lines[i]` is where record i stands in the file, for messages."""

    path: Path
    header: tuple[str, ...]
    records: list[Mapping[str, Any]]
    lines: list[int]
    ragged: list[tuple[int, str]]  # (line, what is wrong)


def read_table(path: Path, *, least_columns: int = 2) -> Table:
    """A CSV, TSV, JSON Lines or Parquet file. Raises DataError where it is not one, is empty, or is not UTF-8."""
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_jsonl(path, file) if path.suffix.lower() == ".jsonl" else _read_csv(path, file, least_columns)
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


def _read_csv(path: Path, file: Iterable[str], least_columns: int) -> Table:
    lines = iter(file)
    first = next(lines, "")
    # Excel writes semicolons where the comma is the decimal sign.
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    header = tuple(name.strip() for name in next(reader, ()))
    if len(header) < least_columns or "\0" in first:
        raise DataError(
            f"data.name: a table with a header, an image column and a label column is expected in {path}, found "
            + (f"only the column {header[0]!r}" if header and "\0" not in first else "none"),
            "give the first line the column names, separated by commas",
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(
            f"data.name: column names must differ in {path}, found {twice[0]!r} twice", "rename one of them"
        )
    _refuse_no_header(path, header)
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


def _read_parquet(path: Path) -> Table:
    from hf_finetune.data.sources.parquet import read_small_table

    records = read_small_table(path)
    header = tuple(records[0]) if records else ()
    return Table(path, header, list(records), list(range(len(records))), [])


def _refuse_no_header(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if suffix_of(name) in IMAGE_SUFFIXES and os.path.isfile(locate(name, path.parent)):  # noqa: PTH113
            raise DataError(
                f"data.name: column names are expected in the first line of {path}, found the image {name}",
                "put a line such as file_name,label above it",
            )


def suffix_of(text: str) -> str:
    """The suffix of a file name in a cell, in lower case; quicker than a Path for a hundred thousand rows."""
    return "." + text.rpartition(".")[2].strip().lower()
