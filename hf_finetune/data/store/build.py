"""Fills one view of the store: hands every row to the workers and writes down what came of each.

Does not decide whether a view may go to disk (`store.py`) nor how it comes into place (`cache.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from hf_finetune.data.sources.streamed.reader import StreamedReader
from hf_finetune.data.store.cache import PIXELS, Entry, amend
from hf_finetune.data.store.decode import CannotWrite, Decoded, Failed, Job, Result, Task, decode
from hf_finetune.data.store.outcomes import Outcomes
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.unfinished import Unfinished
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
    """A new entry on disk, gone on with where an earlier build was ended. The caller holds its lock.

    Raises OSError where the disk cannot take it.
    """
    rows = index.splits[split]
    with Unfinished(root, key, len(rows), geometry) as entry:
        left = entry.outcomes.left()
        counter.add(len(rows) - len(left))
        _fill(Job(index.reader, geometry, max_pixels, entry.pixels), rows, left, pool, counter, entry.add)
        return entry.publish()


def build_together(
    index: Index,
    views: Sequence[tuple[Split, Geometry, str]],
    max_pixels: int,
    root: Path,
    pool: Callable[[], WorkerPool],
    counter: Counter,
) -> None:
    """New entries of several views (split, geometry, key) at once, for a reader whose files come and go: each file is
    there once. The caller holds their locks.

    Raises OSError where the disk cannot take them, DataError where a file cannot be had.
    """
    reader = index.reader
    assert isinstance(reader, StreamedReader)
    with ExitStack() as stack:
        entries: list[Unfinished] = []
        jobs: list[Job] = []
        tasks: list[tuple[int, Task]] = []
        for number, (split, geometry, key) in enumerate(views):
            rows = index.splits[split]
            entry = stack.enter_context(Unfinished(root, key, len(rows), geometry))
            left = entry.outcomes.left()
            counter.add(len(rows) - len(left))
            tasks += [(number, Task(slot, rows[slot].locator)) for slot in left]
            entries.append(entry)
            jobs.append(Job(reader, geometry, max_pixels, entry.pixels))
        for positions in reader.in_turn([task.locator for _, task in tasks]):
            for number, (job, entry) in enumerate(zip(jobs, entries, strict=True)):
                own = [task for owner, task in (tasks[position] for position in positions) if owner == number]
                _decode(job, own, pool, counter, entry.add)
                entry.keep()  # before the file goes
        for entry in entries:
            entry.publish()


def check(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    pool: Callable[[], WorkerPool],
    counter: Counter,
) -> Entry:
    """The same without a disk: only sizes and rejected rows are kept."""
    rows = index.splits[split]
    outcomes = Outcomes(len(rows))
    _fill(Job(index.reader, geometry, max_pixels, None), rows, range(len(rows)), pool, counter, outcomes.add)
    return outcomes.entry()


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
    again, left = _decoded_again(index, split, geometry, max_pixels, entry, sorted(entry.passing), pool)
    return entry if left == len(entry.passing) else amend(root, key, geometry, again)


def look_again(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    root: Path,
    key: str,
    entry: Entry,
    slots: Sequence[int],
    pool: Callable[[], WorkerPool],
) -> tuple[Entry, list[int]]:
    """The entry with these of its rows decoded anew, and those that have become others. The caller holds its lock.
    Raises OSError where the disk cannot take them."""
    began = time.time()
    again, left = _decoded_again(index, split, geometry, max_pixels, entry, slots, pool)
    changed = [
        slot
        for slot in slots
        if again.crcs[slot] != entry.crcs[slot] or (slot in again.rejected) != (slot in entry.rejected)
    ]
    if changed:
        again = replace(again, changed_s=time.time())
    if not left:  # else the next run looks at all of them again
        again = replace(again, written_s=began)
    return amend(root, key, geometry, again), changed


def _decoded_again(
    index: Index,
    split: Split,
    geometry: Geometry,
    max_pixels: int,
    entry: Entry,
    slots: Sequence[int],
    pool: Callable[[], WorkerPool],
) -> tuple[Entry, int]:
    """The entry with these of its rows decoded anew, not written down yet, and how many could not be opened for the
    moment: of these the entry says what it said."""
    job = Job(index.reader, geometry, max_pixels, (entry.folder or Path()) / PIXELS)
    outcomes, left = Outcomes.of(entry), 0

    def add(result: Decoded | Failed) -> None:
        nonlocal left
        if isinstance(result, Failed) and result.passing:
            left += 1
        else:
            outcomes.add(result)

    _fill(job, index.splits[split], slots, pool, Counter(None, 0), add)
    again = replace(outcomes.entry(), folder=entry.folder, written_s=entry.written_s, changed_s=entry.changed_s)
    return again, left


def _fill(
    job: Job,
    rows: Sequence[Row],
    slots: Sequence[int],
    pool: Callable[[], WorkerPool],
    counter: Counter,
    add: Callable[[Decoded | Failed], None],
) -> None:
    """Decodes the rows of these slots and hands on what became of each. Raises OSError."""
    tasks = [Task(slot, rows[slot].locator) for slot in slots]
    if not isinstance(job.reader, StreamedReader):
        _decode(job, tasks, pool, counter, add)
        return
    for positions in job.reader.in_turn([task.locator for task in tasks]):
        _decode(job, [tasks[position] for position in positions], pool, counter, add)


def _decode(
    job: Job,
    tasks: Sequence[Task],
    pool: Callable[[], WorkerPool],
    counter: Counter,
    add: Callable[[Decoded | Failed], None],
) -> None:
    # Closed at once on Ctrl-C or a full disk, so that no worker still writes when the folder is removed.
    with closing(_results(job, tasks, pool)) as results:
        for result in results:
            if isinstance(result, CannotWrite):
                raise OSError(result.number, result.reason)
            add(result)
            counter.add(1)


def _results(job: Job, tasks: Sequence[Task], pool: Callable[[], WorkerPool]) -> Generator[Result, None, None]:
    if not tasks:
        return
    if job.geometry.in_workers:
        with closing(pool().run(job, tasks)) as results:
            yield from results
        return
    with quiet_pillow():
        yield from decode(job, tasks)
