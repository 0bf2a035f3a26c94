"""What a person gives to be predicted: files, folders, patterns, tables, addresses, and names on standard input.

Owns the order and that each is accounted for: what cannot be read is given on with the reason. Names are held, images
are not. Decoding is the caller's.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hf_finetune.data.config import Data
from hf_finetune.data.sources.folders.walk import IGNORED_NAMES, walk
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES, TABLE_SUFFIXES
from hf_finetune.data.sources.tables.rows import open_table
from hf_finetune.errors import DataError
from hf_finetune.network.images import is_address

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Given:
    """One image: its `name` as it was given (a path, a table's cell, an address), the path or address that this means,
    and why it cannot be read, where that is known already."""

    name: str
    locator: str
    error: str = ""


class AllGiven:
    """All of them in the order of the arguments, once over. `total`: how many; None where standard input is to say."""

    def __init__(self, arguments: Sequence[str], config: Data, standard_input: BinaryIO | None = None) -> None:
        """Lists folders, patterns and tables. Raises DataError where a table cannot be used, or nothing is there."""
        self._input = standard_input
        self._parts: list[Sequence[str | Given] | None] = []
        self.folders: list[Path] = []
        read = False
        for argument in arguments:
            if argument != STANDARD_INPUT:
                self._parts.append(self._expand(argument, config))
            elif not read:
                self._parts.append(None)
                read = True
        sizes = [len(part) for part in self._parts if part is not None]
        self.total = None if read else sum(sizes)
        found = (each for part in self._parts if part is not None for each in part)
        if not read and all(isinstance(each, Given) and each.error and each.error in _EMPTY for each in found):
            raise DataError(f"No image found in {', '.join(arguments)}.")

    def __iter__(self) -> Iterator[Given]:
        for part in self._parts:
            for each in self._listed() if part is None else part:
                yield each if isinstance(each, Given) else Given(each, each)

    def _expand(self, argument: str, config: Data) -> Sequence[str | Given]:
        """What one argument means. A file may be called like a pattern, so what exists comes first."""
        if is_address(argument):
            return [argument]
        path = Path(argument)
        if not _exists(path) and argument.startswith("~"):
            path = path.expanduser()
        if _is_dir(path):
            self.folders.append(path)
            return _in_folder(path)
        if path.suffix.lower() in TABLE_SUFFIXES and _exists(path):
            return list(_in_table(path, config))
        if glob.has_magic(argument) and not _exists(path):
            return _matches(argument)
        return [str(path)]

    def _listed(self) -> Iterator[str | Given]:
        """Files, folders and addresses from standard input, one a line, as they come."""
        for line in self._input or sys.stdin.buffer:
            name = _decoded(line)
            if not name.strip():
                continue
            if not is_address(name) and _is_dir(Path(name)):
                yield from _in_folder(Path(name))
            else:
                yield name


_NO_IMAGE = "no image in this folder"
_NO_MATCH = "no file matches it"
_EMPTY = (_NO_IMAGE, _NO_MATCH)


def _in_folder(folder: Path) -> Sequence[str | Given]:
    """The images that training would take: no hidden ones, no system folders, nothing that is no image by its name."""
    found = walk(folder)
    names = [below for below, _ in found.images] + found.links
    names.sort(key=lambda name: name.split("/"))
    return [str(folder / name) for name in names] or [Given(str(folder), str(folder), _NO_IMAGE)]


def _matches(pattern: str) -> Sequence[str | Given]:
    """Files that a pattern matches, `**` in any depth, as far as training would take them from a folder."""
    found = sorted(glob.iglob(os.path.expanduser(pattern), recursive=True))  # noqa: PTH111, PTH207 (keeps ./ as given)
    files = [name for name in found if os.path.isfile(name)]  # noqa: PTH113
    images = [name for name in files if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]  # noqa: PTH122
    images = [name for name in images if IGNORED_NAMES.isdisjoint(name.lower().replace("\\", "/").split("/"))]
    if images:
        return images
    what = f"none of the {len(files):,} files that match it is an image by its name" if files else _NO_MATCH
    return [Given(pattern, pattern, what)]


def _in_table(path: Path, config: Data) -> Iterator[Given]:
    """The rows of a table in their order. Raises DataError where no column names files."""
    if path.suffix.lower() == ".parquet":
        _refuse_images_inside(path)
    opened = open_table(path, config, "test")
    column = opened.find_image(config)
    records = zip(opened.table.lines, opened.table.records, strict=True)
    rows = [(line, _of_row(opened.files.find, record.get(column), path, line)) for line, record in records]
    ragged = [(line, Given(f"{path} line {line}", "", reason)) for line, reason in opened.table.ragged]
    for _, row in sorted([*rows, *ragged], key=lambda pair: pair[0]) if ragged else rows:
        yield row


def _of_row(find: Callable[[str], str], cell: object, path: Path, line: int) -> Given:
    text = "" if cell is None else str(cell)
    if not text.strip():
        return Given(f"{path} line {line}", "", "no path")
    if is_address(text.strip()):
        return Given(text, text.strip())
    try:
        return Given(text, find(text))
    except (ValueError, DataError) as error:  # a null byte; an address that is none of http
        return Given(text, "", str(error))


def _refuse_images_inside(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hf_finetune.data.sources.parquet import kind_of

    try:
        kinds = {column.name: kind_of(column.type) for column in pq.read_schema(path)}
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"A Parquet file is expected, found {path}: {error}.", "Write it again.") from error
    if "image" in kinds.values() and "text" not in kinds.values():
        raise DataError(
            f"{path} holds images themselves; a table with a column of paths is expected.",
            "Write them as files first; `hf-finetune evaluate --data` reads such a table where it has labels.",
        )


def _decoded(line: bytes) -> str:
    """A name without its line break; bytes that are no text are kept as Python's file functions want them."""
    line = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return os.fsdecode(line)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def config_of(overrides: Iterable[str]) -> Data:
    """What `data.image_column=…` and `data.image_folder=…` say. Raises DataError for another key."""
    told = dict(each.removeprefix("data.").split("=", 1) for each in overrides)
    if other := [key for key in told if key not in ("image_column", "image_folder")]:
        raise DataError(
            f"data.{other[0]}: to predict, data.image_column and data.image_folder of a table are expected.",
            f"A file of that name is given as ./data.{other[0]}=….",
        )
    return Data(**told)  # pyright: ignore[reportArgumentType]
