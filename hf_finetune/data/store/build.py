"""Fills one view of the store: hands every row to the workers and writes down what came of each.

Does not decide whether a view may go to disk (`store.py`) nor how it comes into place (`cache.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_finetune.data.store.cache import PIXELS, Entry, amend, building
from hf_finetune.data.store.decode import CannotWrite, Decoded, Failed, Job, Result, Task, decode
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.views import Geometry
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.types import Index, Row, Split


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
        return entry.publish(_fill(job, index.splits[split], pool, counter))


def check(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    pool: Callable[[], WorkerPool],
    counter: Counter,
) -> Entry:
    """The same without a disk: only sizes and rejected rows are kept."""
    return _fill(Job(index.reader, geometry, max_pixels, None), index.splits[split], pool, counter)


def try_again(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    root: Path,
    key: str,
    entry: Entry,
    pool: Callable[[], WorkerPool],
) -> Entry:
    """The entry with those of its rows that could not be opened when it was built, as far as they can be now. The
    caller holds its lock. Raises OSError where the disk cannot take them."""
    if entry.folder is None or not entry.passing:
        return entry
    job = Job(index.reader, geometry, max_pixels, entry.folder / PIXELS)
    again = _fill(job, index.splits[split], pool, Counter(None, 0), entry, sorted(entry.passing))
    return entry if again.passing == entry.passing else amend(root, key, geometry, replace(again, folder=entry.folder))


def _fill(
    job: Job,
    rows: Sequence[Row],
    pool: Callable[[], WorkerPool],
    counter: Counter,
    before: Entry | None = None,
    slots: Iterable[int] | None = None,
) -> Entry:
    """What became of all slots, or of `slots` beside what there was `before`."""
    tasks = [Task(slot, rows[slot].locator) for slot in (range(len(rows)) if slots is None else slots)]
    sizes = np.zeros((len(rows), 2), np.int32) if before is None else before.sizes.copy()
    crcs = np.zeros(len(rows), np.uint32) if before is None else before.crcs.copy()
    tried = {task.slot for task in tasks}
    rejected = {} if before is None else {slot: why for slot, why in before.rejected.items() if slot not in tried}
    beyond: dict[int, int] = {} if before is None else dict(before.clipped)
    passing: set[int] = set()
    # Closed at once on Ctrl-C or a full disk, so that no worker still writes when the folder is removed.
    with closing(_results(job, tasks, pool)) as results:
        for result in results:
            match result:
                case Decoded(slot, width, height, crc, clipped):
                    sizes[slot], crcs[slot] = (width, height), crc
                    if clipped:
                        beyond[slot] = clipped
                case Failed(slot, reason, may_pass):
                    rejected[slot] = reason
                    if may_pass:
                        passing.add(slot)
                case CannotWrite(number, reason):
                    raise OSError(number, reason)
            counter.add(1)
    return Entry(None, sizes, crcs, rejected, beyond, frozenset(passing))


def _results(job: Job, tasks: Sequence[Task], pool: Callable[[], WorkerPool]) -> Generator[Result, None, None]:
    if not tasks:
        return
    if job.geometry.in_workers:
        with closing(pool().run(job, tasks)) as results:
            yield from results
        return
    with quiet_pillow():
        yield from decode(job, tasks)
