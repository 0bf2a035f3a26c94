"""Fills one view of the store: hands every row to the workers and writes down what came of each.

Does not decide whether a view may go to disk (`store.py`) nor how it comes into place (`cache.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from hf_finetune.data.store.cache import Entry, building
from hf_finetune.data.store.decode import CannotWrite, Decoded, Failed, Job, Result, Task, decode
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.views import Geometry
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.types import Index, Split


class Counter:
    """Progress over all views of one opening."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        """`count` more rows are done."""
        self._done = min(self._done + count, self._total)
        if self._progress is not None and count:
            self._progress(self._done, self._total)


def build(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    root: Path,
    key: str,
    pool: Callable[[], WorkerPool],
    counter: Counter,
) -> Entry:
    """A new entry on disk. The caller holds its lock. Raises OSError where the disk cannot take it."""
    with building(root, key, len(index.splits[split]), geometry) as entry:
        job = Job(index.reader, geometry, max_pixels, entry.pixels)
        return entry.publish(*_fill(job, index, split, pool, counter))


def check(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    pool: Callable[[], WorkerPool],
    counter: Counter,
) -> Entry:
    """The same without a disk: only sizes and rejected rows are kept."""
    job = Job(index.reader, geometry, max_pixels, None)
    sizes, _, rejected, clipped = _fill(job, index, split, pool, counter)
    return Entry(None, sizes, rejected, clipped)


def _fill(
    job: Job, index: Index, split: Split, pool: Callable[[], WorkerPool], counter: Counter
) -> tuple[np.ndarray, np.ndarray, dict[int, str], dict[int, int]]:
    tasks = [Task(slot, row.locator) for slot, row in enumerate(index.splits[split])]
    sizes = np.zeros((len(tasks), 2), np.int32)
    crcs = np.zeros(len(tasks), np.uint32)
    rejected: dict[int, str] = {}
    beyond: dict[int, int] = {}
    # Closed at once on Ctrl-C or a full disk, so that no worker still writes when the folder is removed.
    with closing(_results(job, tasks, pool)) as results:
        for result in results:
            match result:
                case Decoded(slot, width, height, crc, clipped):
                    sizes[slot], crcs[slot] = (width, height), crc
                    if clipped:
                        beyond[slot] = clipped
                case Failed(slot, reason):
                    rejected[slot] = reason
                case CannotWrite(number, reason):
                    raise OSError(number, reason)
            counter.add(1)
    return sizes, crcs, rejected, beyond


def _results(job: Job, tasks: Sequence[Task], pool: Callable[[], WorkerPool]) -> Generator[Result, None, None]:
    if not tasks:
        return
    if job.geometry.in_workers:
        with closing(pool().run(job, tasks)) as results:
            yield from results
        return
    with quiet_pillow():
        yield from decode(job, tasks)
