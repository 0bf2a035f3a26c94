"""What a dataset holds in its own words, before splits are chosen and labels are encoded.

Every kind of source (folder, table, Hub, memory) is read into a `Source`; `scan` makes the `Index` of it. Owns the two
types and the texts that list names; knows no kind of source.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from unicodedata import normalize

from hf_finetune.files.visible import one_line
from hf_finetune.types import Note, Reader

Cell = str | int | tuple[str | int, ...] | None  # a list of labels is a tuple


class Cells(tuple[Cell, ...]):
    """What several label columns hold in a row, in the order of the columns."""

    __slots__ = ()


RawLabel = Cell | Cells


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as found.

    `label` is None where none is given, `Cells` where there are several label columns. `size` is the encoded image's
    length in bytes, 0 where unknown or empty (such rows are never taken for duplicates); `mtime_ns` is 0 where there is
    no file. `tail` is the `tail_digest` of the bytes where the source had them at hand. `group` is what the row belongs
    to by `data.group_column`, as text. `touched_ns`: when the file was last touched in any way (its inode's time), 0
    where there is none or the system does not say.
    """

    name: str
    label: RawLabel
    locator: str | int
    size: int = 0
    mtime_ns: int = 0
    tail: bytes = b""
    group: str | None = None
    touched_ns: int = 0


@dataclass(frozen=True, slots=True)
class SourceRejected:
    """A row that the source itself cannot give, and why; `split` is the dataset's own name of it."""

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Source:
    """Every row by the dataset's own split names, and the reader of their bytes.

    `label_names` is the order given by the dataset (a ClassLabel), then labels are positions in it. `has_splits` is
    False where the dataset knows none, and everything stands under `train`. `label_columns`: their names, if any.
    `stamp` identifies content that the rows do not show (a commit, a table file's size and time). `classes_given` says
    that somebody has sorted the rows into classes (folders), so that their number and look say nothing. `layout` is
    what was understood, for people. `left_out` counts the rows of splits that were not even read, since
    `data.ignore_splits` names them (None: not counted either). `touched_ns`: as a row's, of files that hold many.
    """

    name: str
    splits: Mapping[str, list[SourceRow]]
    reader: Reader
    has_splits: bool = True
    label_names: tuple[str, ...] | None = None
    rejected: tuple[SourceRejected, ...] = ()
    notes: tuple[Note, ...] = ()
    commit: str | None = None
    licence: str | None = None
    stamp: str = ""
    classes_given: bool = False
    layout: str = ""
    label_columns: tuple[str, ...] = ()
    left_out: Mapping[str, int | None] = field(default_factory=dict)
    touched_ns: int = 0


NOW_NS = 100_000_000


def file_row(name: str, label: RawLabel, path: str, stat: os.stat_result, group: str | None = None) -> SourceRow:
    """A row that is a file, by what the system says of it."""
    return SourceRow(name, label, path, stat.st_size, stat.st_mtime_ns, group=group, touched_ns=touched_ns(stat))


def touched_ns(stat: os.stat_result) -> int:
    """When a file was last touched: its content, its name, or what the system knows of it. 0 where that is not said:
    Windows says under this name when it was made, and some mounted stores always say now."""
    said = 0 if sys.platform == "win32" else stat.st_ctime_ns
    return 0 if said > time.time_ns() - NOW_NS else said


def plain(text: str) -> str:
    """The NFC form, so that a name typed on macOS (NFD) and the same name typed elsewhere are equal.

    Bytes of a file name that are not UTF-8 become `\\udcXX`, so that the name can be printed and saved.
    """
    return text if text.isascii() else normalize("NFC", text.encode("utf-8", "backslashreplace").decode())


def listing(names: Iterable[object], most: int = 5) -> str:
    """`a, b, c and 4 more`, each name on one line whatever is in it."""
    texts = [one_line(str(name)) for name in names]
    shown = ", ".join(texts[:most])
    return f"{shown} and {len(texts) - most:,} more" if len(texts) > most else shown


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,797 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


TAIL_BYTES = 4096
WHOLE_BYTES = 24  # of a digest of all of an image


def tail_digest(data: bytes | memoryview) -> bytes:
    """Digest of the last 4,096 bytes, where compressed images of equal size differ most surely."""
    return blake2b(data[-TAIL_BYTES:], digest_size=16).digest()


def whole_digest(data: bytes | memoryview) -> bytes:
    """Digest of all bytes, longer than that of their tail, so that the two are told apart."""
    return blake2b(data, digest_size=WHOLE_BYTES).digest()
