"""Where answers go: standard output or a file, as text, CSV, JSON Lines or Parquet, one answer after another.

A file is written as FILE.partial and gets its name at the end: there is never half a table under it, and what was
answered before an interruption is kept.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from hf_finetune.errors import DataError, MachineError
from hf_finetune.files.visible import visible
from hf_finetune.report.predicted.columns import Cell, csv_cell, own_names, row_of
from hf_finetune.report.progress import aside

FORMATS = ("text", "csv", "jsonl", "parquet")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
            ".txt": "text"}  # fmt: skip
_ROWS = 10_000  # of a Parquet file that are held at once


class Answer(Protocol):
    """What is said of one image, in each of the ways in which it can be written."""

    def as_text(self) -> str | None:
        """A line; None where there is nothing to say."""
        ...

    def as_json(self) -> Mapping[str, Any]: ...

    def as_cells(self) -> Mapping[str, Cell]:
        """By column."""
        ...


def format_of(chosen: str | None, file: Path | None) -> str:
    """The format by name, else by the file's suffix, else text. Raises DataError."""
    if chosen == "parquet" and file is None:
        raise DataError(
            "--format parquet: a file is expected, since Parquet is no text.", "Give --out answers.parquet."
        )
    if chosen is not None or file is None:
        return chosen or "text"
    if file.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"--out: a file that ends in {', '.join(SUFFIXES)} is expected, found {file}.",
            f"Or say what it holds: --format {', '.join(FORMATS)}.",
        )
    return SUFFIXES[file.suffix.lower()]


class Output:
    """Use it with `with`; `write` each answer. `kinds`: the table's columns and the type of each (str, float, bool).

    `shown_on`: what stands for the standard output. Raises DataError on entering where the file is there and
    `overwrite` is False; MachineError where it cannot be written. `kept` says where answers are that did not become the
    file.
    """

    def __init__(
        self,
        format_name: str,
        kinds: Mapping[str, type],
        file: Path | None = None,
        *,
        overwrite: bool = False,
        shown_on: TextIO | None = None,
    ) -> None:
        self._format, self._kinds, self._columns = format_name, kinds, tuple(kinds)
        self._file, self._overwrite = file, overwrite
        self._partial = None if file is None else file.with_name(f"{file.name}.partial")
        self._stream: TextIO | None = None
        self._shown_on = shown_on
        self._count = 0

    def __enter__(self) -> Output:
        if self._file is not None and self._partial is not None:
            for there in (self._file, self._partial):
                if not self._overwrite and (there.exists() or there.is_symlink()):
                    raise DataError(
                        f"{there} is there already, and nothing is overwritten.",
                        "Give another name with --out, move it away, or allow it with --overwrite.",
                    )
            try:
                # By lines, so that a kill leaves whole ones.
                self._stream = self._partial.open("w", encoding="utf-8", newline="", buffering=1)
            except OSError as error:
                raise DataError(
                    f"--out: {self._file} cannot be written: {error.strerror or error}.",
                    "Give a file in a folder that is there and may be written.",
                ) from None
        if self._format == "csv":
            self._lines(_csv_line([csv_cell("", name) for name in self._columns], self._file is not None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is None:
            return
        try:
            self._stream.close()
        except OSError as reason:
            if error is None:
                raise self._unwritable(reason) from None
        if error is None:
            self._finish()
        elif not self._count and self._partial is not None:
            self._partial.unlink(missing_ok=True)

    @property
    def kept(self) -> str:
        """`12 answers are in FILE.partial`; nothing where none was written to a file."""
        if self._partial is None or not self._count:
            return ""
        lines = ", as JSON lines" if self._format == "parquet" else ""
        return f"{self._count:,} answer{'s are' if self._count > 1 else ' is'} in {self._partial}{lines}"

    def write(self, answer: Answer) -> None:
        """One answer. Raises MachineError where it cannot be written."""
        if self._format == "text":
            line = answer.as_text()
            if line is not None:
                self._lines(f"{visible(line)}\n")
        elif self._format == "jsonl":
            self._lines(_json_line(answer.as_json()))
        else:
            row = row_of(self._columns, answer.as_cells())
            if self._format == "csv":
                self._lines(_csv_line([csv_cell(name, cell) for name, cell in row.items()], self._file is not None))
            else:
                self._lines(_json_line(row))
        self._count += 1

    def _lines(self, text: str) -> None:
        if self._stream is None:
            with aside():
                shown_on = self._shown_on or sys.stdout
                shown_on.write(text)
                shown_on.flush()  # whoever reads the pipe sees the answer now
            return
        try:
            self._stream.write(text)
        except OSError as error:
            raise self._unwritable(error) from None

    def _finish(self) -> None:
        assert self._partial is not None and self._file is not None
        try:
            if self._format == "parquet":
                beside = self._file.with_name(f"{self._file.name}.writing")
                _to_parquet(self._partial, beside, self._kinds)
                beside.replace(self._file)
                self._partial.unlink()
            else:
                self._partial.replace(self._file)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> MachineError:
        kept = f"{self.kept}; the last may be cut off." if self.kept else "Nothing was answered yet."
        return MachineError(f"--out: {self._file} cannot be written: {error.strerror or error}.", kept)


def kinds_of(columns: Sequence[str], answer: Mapping[str, str | float]) -> dict[str, type]:
    """The type of each column, those of the answer by an example of one."""
    own = dict(zip(own_names(tuple(answer)), map(type, answer.values()), strict=True))
    return {name: {"unlike": bool, "distance": float}.get(name, own.get(name, str)) for name in columns}


def _json_line(content: Mapping[str, Any]) -> str:
    # A lone surrogate (a byte of a name that is no UTF-8) becomes \udcXX, which is how JSON itself writes it.
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


class _Line:
    """What csv writes into."""

    text = ""

    def write(self, text: str) -> None:
        self.text += text


def _csv_line(cells: Sequence[str], in_file: bool) -> str:
    """RFC 4180's line; standard output turns the line break into its system's by itself."""
    line = _Line()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.text if in_file else line.text.removesuffix("\r\n") + "\n"


def _to_parquet(lines: Path, file: Path, kinds: Mapping[str, type]) -> None:
    """JSON lines as a Parquet file, some thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    with lines.open(encoding="utf-8") as text, pq.ParquetWriter(file, schema) as writer:
        while rows := list(islice(_records(text), _ROWS)):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _records(lines: TextIO) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)
