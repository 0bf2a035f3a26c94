"""Reading, drawing and writing one row after another: what a worker process does, and what it reports.

Owns the job and its results. Does not own the processes (`pool.py`, `worker.py`) or the store's files (`cache.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from hf_finetune.data.store.views import Geometry, row_bytes
from hf_finetune.errors import first_line
from hf_finetune.preprocess.pixels import UnreadableImage
from hf_finetune.types import Reader

# What a reader may raise for one row; anything else is a mistake in the reader and stops the run.
READ_ERRORS = (OSError, ValueError, LookupError)


class Task(NamedTuple):
    """One row to decode: where its pixels go, and what the reader finds it by."""

    slot: int
    locator: str | int


class Decoded(NamedTuple):
    """A row that was written."""

    slot: int
    width: int
    height: int
    crc: int
    clipped: int = 0  # values beyond the value range


class Failed(NamedTuple):
    """A row that cannot be used. `passing`: it could not be opened, which another time it may be."""

    slot: int
    reason: str
    passing: bool = False


class CannotWrite(NamedTuple):
    """The store's file cannot take the row: no space left, or a disk error. Not the row's fault."""

    number: int
    reason: str


Result = Decoded | Failed | CannotWrite


@dataclass(frozen=True)
class Job:
    """What is done to every task. `path` is the store's file of rows, already at its full length; None: only look."""

    reader: Reader
    geometry: Geometry
    max_pixels: int
    path: Path | None


def decode(job: Job, tasks: Iterable[Task]) -> Iterator[Result]:
    """Reads, draws and writes each task in turn, and says what came of it. Ends after a CannotWrite."""
    if job.path is None:
        for task in tasks:
            yield _decode_one(job, task, None)
        return
    with FileIO(job.path, "r+") as file:
        for task in tasks:
            result = _decode_one(job, task, file)
            yield result
            if isinstance(result, CannotWrite):
                return


def _decode_one(job: Job, task: Task, file: FileIO | None) -> Result:
    try:
        data = job.reader.read(task.locator)
    except UnreadableImage as error:
        return Failed(task.slot, str(error))
    except READ_ERRORS as error:
        return Failed(task.slot, f"cannot be read: {reason_of(error)}", passing=isinstance(error, OSError))
    try:
        pixels, (width, height), clipped = job.geometry.draw(data, job.max_pixels)
    except UnreadableImage as error:
        return Failed(task.slot, str(error))
    except READ_ERRORS as error:
        return Failed(task.slot, f"cannot be read: {reason_of(error)}")
    view = memoryview(pixels.data).cast("B") if pixels.size else memoryview(b"")
    if file is not None:
        try:
            _write(file, view, task.slot * row_bytes(job.geometry))
        except OSError as error:
            return CannotWrite(error.errno or 0, reason_of(error))
    return Decoded(task.slot, width, height, zlib.crc32(view), clipped)


def _write(file: FileIO, view: memoryview, offset: int) -> None:
    file.seek(offset)
    while view:
        # A plain write may be short near the end of the disk; the next one then says why.
        view = view[file.write(view) :]


def reason_of(error: BaseException) -> str:
    """The system's own words for an OSError, without the path (the row's name stands beside it)."""
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
