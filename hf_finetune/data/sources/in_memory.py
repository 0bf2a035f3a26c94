"""Data at hand in a notebook: lists of paths, and encoded images in memory.

Images that take more than `MEMORY_LIMIT_BYTES` are spooled to a file, so that worker processes can share them.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.data.config import Data
from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.naming import LIST_IN_MEMORY, TABLE_FIELDS, refuse_unused
from hf_finetune.data.sources.readers import BytesReader, FileReader, SpoolReader
from hf_finetune.data.sources.source import RawLabel, Source, SourceRejected, SourceRow, file_row, plain
from hf_finetune.errors import DataError
from hf_finetune.types import Reader

MEMORY_LIMIT_BYTES = 64_000_000


def read_list(data: Sequence[Any], config: Data) -> Source:
    """(path, label) pairs, or paths whose parent folder is the class. Raises DataError."""
    name = LIST_IN_MEMORY.format(len(data))
    refuse_unused(config, name, "revision", "config", "class_level", *TABLE_FIELDS)
    if not data:
        raise DataError("data: images are expected, found an empty list", "give (path, label) pairs or paths")
    rows: list[SourceRow] = []
    rejected: list[SourceRejected] = []
    for number, item in enumerate(data):
        path, label = _pair(item, number)
        shown = plain(path.as_posix())
        try:
            stat = path.stat()
        except (OSError, ValueError) as error:
            reason = "file not found" if isinstance(error, FileNotFoundError) else f"file cannot be read: {error}"
            rejected.append(SourceRejected(shown, "train", reason))
            continue
        rows.append(file_row(shown, label, str(path.absolute()), stat))
    return Source(name, {"train": rows}, FileReader(), has_splits=False, rejected=tuple(rejected))


def _pair(item: Any, number: int) -> tuple[Path, RawLabel]:
    if isinstance(item, str | Path):
        return Path(item), Path(item).absolute().parent.name
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str | Path):
        label = item[1].item() if isinstance(item[1], np.generic) else item[1]
        if isinstance(label, bool):
            return Path(item[0]), str(label)
        if is_missing(label) or isinstance(label, str | int):
            return Path(item[0]), label
    raise DataError(
        f"data: (path, label) pairs or paths are expected, found {item!r} at position {number}",
        "give a path, or a pair of a path and a class name or number",
    )


def keep(images: Iterable[bytes], cache_dir: str | None) -> Reader:
    """A reader of these encoded images by position: in memory while they are few, else in a file.

    The file lies in `cache_dir` (None: the system's folder of temporary files) and is removed when this process ends.
    """
    kept: list[bytes] = []
    total = 0
    rest = iter(images)
    for image in rest:
        kept.append(image)
        total += len(image)
        if total > MEMORY_LIMIT_BYTES:
            return _spool(kept, rest, cache_dir)
    return BytesReader(tuple(kept))


def _spool(kept: list[bytes], rest: Iterable[bytes], cache_dir: str | None) -> SpoolReader:
    if cache_dir is not None:
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
    try:
        descriptor, path = tempfile.mkstemp(prefix="hf_finetune-images-", dir=cache_dir)
        atexit.register(_remove, path, os.getpid())
        ends: list[int] = []
        with os.fdopen(descriptor, "wb") as file:
            for images in (kept, rest):
                for image in images:
                    file.write(image)
                    ends.append(file.tell())
    except OSError as error:
        raise DataError(
            f"data.cache_dir: the images in memory could not be written to {cache_dir or tempfile.gettempdir()}: "
            f"{error.strerror}",
            "free some disk, or set data.cache_dir to another disk",
        ) from error
    return SpoolReader(path, np.asarray(ends, dtype=np.int64))


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker that ends must not remove it
        Path(path).unlink(missing_ok=True)
