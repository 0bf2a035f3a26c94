"""Readers: the encoded bytes of a row, in whatever process asks.

Each is picklable and light (standard library; pyarrow is imported when the first row is read, torch and datasets
never), opens what it needs lazily once per process, and holds at most one row group in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from hf_finetune.data.sources.regular import read_regular

# One row group's images are kept in memory up to this size; larger groups are read forward in pieces of about PIECE.
GROUP_LIMIT_BYTES = 64_000_000
PIECE_BYTES = 16_000_000


@dataclass(frozen=True)
class FileReader:
    """Reads image files; the locator is the absolute path."""

    def read(self, locator: str | int) -> bytes:
        """The file's bytes. Raises OSError."""
        return read_regular(str(locator))


@dataclass(frozen=True)
class BytesReader:
    """Holds the encoded images themselves; the locator is the position. Text locators are file paths."""

    images: tuple[bytes, ...] = field(repr=False)

    def read(self, locator: str | int) -> bytes:
        """The row's bytes. Raises OSError for a path that cannot be read."""
        return self.images[locator] if isinstance(locator, int) else read_regular(locator)


@dataclass(frozen=True)
class SpoolReader:
    """Reads images that were written one after another into one file; the locator is the position.

    `ends[i]` is where image i ends. For data in memory that is too large to be pickled into every worker.
    """

    path: str
    ends: Any = field(repr=False)  # int64 [N], numpy

    def read(self, locator: str | int) -> bytes:
        """The row's bytes. Raises OSError."""
        if isinstance(locator, str):
            return read_regular(locator)
        start = int(self.ends[locator - 1]) if locator else 0
        with Path(self.path).open("rb") as file:
            file.seek(start)
            return file.read(int(self.ends[locator]) - start)


@dataclass(frozen=True)
class ArrowReader:
    """Reads an image column out of the Arrow files of a Hugging Face dataset, memory-mapped.

    The locator is the row's number over all `files` in order; text locators are file paths.
    """

    files: tuple[str, ...]
    column: str
    _opened: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "column": self.column, "_opened": {}}

    def read(self, locator: str | int) -> bytes:
        """The row's bytes. Raises OSError, and ValueError where the row holds neither bytes nor a file's path."""
        if isinstance(locator, str):
            return read_regular(locator)
        if not self._opened:
            columns = [open_arrow(path).column(self.column) for path in self.files]
            chunks = [chunk for column in columns for chunk in column.chunks]
            ends, total = [], 0
            for chunk in chunks:
                total += len(chunk)
                ends.append(total)
            self._opened.update(chunks=chunks, ends=ends)
        ends = self._opened["ends"]
        number = bisect_right(ends, locator)
        return _bytes_of(self._opened["chunks"][number][locator - (ends[number - 1] if number else 0)], locator)


@dataclass(frozen=True)
class ParquetReader:
    """Reads an image column of Parquet files; the locator is the row's number over all `files` in order.

    The last used row group stays in memory where its images take at most `GROUP_LIMIT_BYTES`; of a larger one only
    the piece around the last row, which makes reading forward fast and reading in random order slow but bounded.
    Text locators are file paths.
    """

    files: tuple[str, ...]
    column: str
    _opened: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "column": self.column}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _opened={}, _lock=Lock())

    def read(self, locator: str | int) -> bytes:
        """The row's bytes. Raises OSError, and ValueError where the row holds no bytes."""
        if isinstance(locator, str):
            return read_regular(locator)
        with self._lock:  # the threads of on_the_fly.py share the piece in memory
            return self._row(locator)

    def _row(self, locator: int) -> bytes:
        if "groups" not in self._opened:
            self._opened["groups"], self._opened["ends"] = _row_groups(self.files, self.column)
        ends: list[int] = self._opened["ends"]
        group = bisect_right(ends, locator)
        offset = locator - (ends[group - 1] if group else 0)
        pieces: _Pieces | None = self._opened.get("pieces")
        if pieces is None or pieces.group != group or offset < pieces.start:
            opened, number, batch_rows = self._opened["groups"][group]
            batches = opened.iter_batches(batch_size=batch_rows, row_groups=[number], columns=[self.column])
            pieces = self._opened["pieces"] = _Pieces(group, batches)
        return _bytes_of(pieces.row(offset), locator)


BLOCK_BYTES = 512  # where bytes in a tar begin is a multiple of it
_PLACE_BITS, _SIZE_BITS = 40, 32
SHARD_BITS = _PLACE_BITS + _SIZE_BITS


@dataclass(frozen=True)
class ShardReader:
    """Reads members of tar shards at their places; the locator is `shard_locator`'s number, which says all of it.

    So nothing else of the rows is held, here or in a worker. Only the shards themselves are opened.
    """

    files: tuple[str, ...]

    def read(self, locator: str | int) -> bytes:
        """The row's bytes. Raises OSError, also where the shard has become shorter."""
        number = int(locator)
        size = number & ((1 << _SIZE_BITS) - 1)
        block = (number >> _SIZE_BITS) & ((1 << _PLACE_BITS) - 1)
        with open(self.files[number >> SHARD_BITS], "rb", buffering=0) as file:  # noqa: PTH123 (quicker)
            file.seek(block * BLOCK_BYTES)
            data = file.read(size)
        if len(data) < size:
            raise OSError(f"its shard ends within it, after {len(data):,} of {size:,} bytes")
        return data


def shard_locator(shard: int, offset: int, size: int) -> int:
    """One number for a member's place: which shard, where in it its bytes begin, how many they are (below 4 GiB)."""
    return (shard << _PLACE_BITS | offset // BLOCK_BYTES) << _SIZE_BITS | size


class _Pieces:
    """A row group read forward, one piece in memory at a time."""

    def __init__(self, group: int, batches: Iterator[Any]) -> None:
        self.group = group
        self.start = 0
        self._batches = batches
        self._piece: Any = None

    def row(self, offset: int) -> Any:
        """The value at `offset` of the row group, at or after the current piece."""
        while self._piece is None or offset >= self.start + len(self._piece):
            self.start += 0 if self._piece is None else len(self._piece)
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(
                    f"row group {self.group} ends before its row {offset}: the file changed while it was read"
                )
            self._piece = batch.column(0)
        return self._piece[offset - self.start]


def open_arrow(path: str) -> Any:
    """The memory-mapped table of an Arrow file as `datasets` writes it (stream format). Raises OSError."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(path)).read_all()


def group_batch_rows(group: Any, column: str) -> tuple[int, int]:
    """(rows to read at once, bytes of the column) for one row group's metadata."""
    size = 0
    for number in range(group.num_columns):
        part = group.column(number)
        if part.path_in_schema.split(".")[0] == column:
            size += part.total_uncompressed_size
    if size <= GROUP_LIMIT_BYTES:
        return max(1, group.num_rows), size
    return max(1, group.num_rows * PIECE_BYTES // size), size


def _row_groups(files: tuple[str, ...], column: str) -> tuple[list[tuple[Any, int, int]], list[int]]:
    import pyarrow.parquet as pq

    groups, ends, total = [], [], 0
    for path in files:
        opened = pq.ParquetFile(path, memory_map=True)
        for number in range(opened.metadata.num_row_groups):
            meta = opened.metadata.row_group(number)
            groups.append((opened, number, group_batch_rows(meta, column)[0]))
            total += meta.num_rows
            ends.append(total)
    return groups, ends


def _bytes_of(value: Any, locator: int) -> bytes:
    found = value.as_py()
    found = found.get("bytes") if isinstance(found, dict) else found
    if not found:
        raise ValueError(f"row {locator} holds no image bytes")
    return found
