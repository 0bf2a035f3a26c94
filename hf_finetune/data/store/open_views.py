"""Opens views: one split at one geometry, found in the cache, built there, or decoded on the fly, with the reason said.

Owns that choice and the disk allowance. Does not own the files (`cache.py`), the processes (`pool.py`), the pixels
(`views.py`), or which views a run wants (`store.py`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_finetune.data.sources.streamed.reader import StreamedReader
from hf_finetune.data.store.build import Counter, build, build_together, check, look_again, try_again
from hf_finetune.data.store.cache import Entry, load_entry, view_key
from hf_finetune.data.store.expiry import held_bytes, make_room
from hf_finetune.data.store.on_the_fly import OnTheFlyRows, Redraw
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.stored_rows import StoredRows, kept_slots
from hf_finetune.data.store.touched import touched_slots
from hf_finetune.data.store.unfinished import unfinished_folder
from hf_finetune.data.store.views import Check, Exact, Geometry, Values, row_bytes
from hf_finetune.errors import MachineError
from hf_finetune.files.cache import cache_root, locked
from hf_finetune.report.value_range import range_text
from hf_finetune.types import Index, Note, PixelRows, Rejected, Row, Split
from hf_finetune.units import format_bytes

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """What all views of a run share. `limit_bytes` None: half of what is free on the cache's disk; `used`: bytes on
    disk of the run's entries so far by their keys, also of the kept features."""

    workers: int
    cache_dir: Path | None = None
    limit_bytes: int | None = None
    max_pixels: int = 50_000_000
    used: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """One split at one geometry, ready to be read."""

    rows: PixelRows
    rejected: tuple[Rejected, ...]
    on_disk: bool
    built: bool
    notes: tuple[Note, ...]
    clipped: Note | None = None  # images with values beyond the value range


def open_views(
    index: Index,
    wanted: Sequence[tuple[Split, Geometry]],
    options: Options,
    *,
    pool: WorkerPool | None = None,
    progress: Progress | None = None,
) -> list[View]:
    """Any splits at any geometries, in the order asked for. What fits the limit goes to disk, the first ones first.

    Does not judge the rejected rows: see `check_rejected`.
    """
    root = cache_root(options.cache_dir)
    keys = [view_key(index, split, geometry, options.max_pixels) for split, geometry in wanted]
    found = [
        load_entry(root, key, len(index.splits[split]), geometry)
        for key, (split, geometry) in zip(keys, wanted, strict=True)
    ]
    missing = [len(index.splits[split]) for (split, _), entry in zip(wanted, found, strict=True) if entry is None]
    counter = Counter(progress, sum(missing))
    opener = _Opener(index, options, root, set(keys), counter, pool)
    try:
        if isinstance(index.reader, StreamedReader):
            opener.build_streamed(index.reader, wanted, keys, found)
        return [
            opener.open(split, geometry, key, entry)
            for (split, geometry), key, entry in zip(wanted, keys, found, strict=True)
        ]
    finally:
        opener.close()


class _Refused(NamedTuple):
    """Why decoded images may not be kept, and what of it is for the owner alone."""

    why: str
    where: str = ""

    def note(self) -> Note:
        return Note(f"images are decoded anew each time, since {self.why}", self.where)


class _Opener:
    """Opens one view after another, with one pool and one disk allowance for all of them."""

    def __init__(
        self, index: Index, options: Options, root: Path, keys: set[str], counter: Counter, pool: WorkerPool | None
    ) -> None:
        self.index, self.options, self.root, self.keys, self.counter = index, options, root, keys, counter
        self._given, self._own = pool, None
        self._no_disk: _Refused | None = None
        self._built: set[str] = set()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _pool(self) -> WorkerPool:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = WorkerPool(self.options.workers)
        return self._own

    def open(self, split: Split, geometry: Geometry, key: str, entry: Entry | None) -> View:
        rows = self.index.splits[split]
        notes = () if geometry.in_workers else (_of(split, STOCK_NOTE),)
        if entry is not None:
            self.options.used[key] = len(rows) * row_bytes(geometry)
            entry = self._tried_again(split, geometry, key, entry)
            entry = self._held_to_images(split, geometry, key, entry)
            return self._view(split, geometry, entry, built=key in self._built, notes=notes)
        refusal = self._no_disk or self._refusal([key], len(rows) * row_bytes(geometry))
        if not refusal:
            try:
                entry, built = self._build(split, geometry, key)
                self.options.used[key] = len(rows) * row_bytes(geometry)
                return self._view(split, geometry, entry, built=built, notes=notes)
            except OSError as error:
                refusal = self._no_disk = self._explain(error)
        return self._on_the_fly(split, geometry, (*notes, _of(split, refusal.note())))

    def build_streamed(
        self,
        reader: StreamedReader,
        wanted: Sequence[tuple[Split, Geometry]],
        keys: Sequence[str],
        found: list[Entry | None],
    ) -> None:
        """Fills in the entries that were not `found`, all at once, so that each file is fetched once.

        Raises MachineError where the disk cannot take them: files that are gone cannot be decoded on the fly.
        """
        views = {key: (*view, key) for view, key, entry in zip(wanted, keys, found, strict=True) if entry is None}
        if not views:
            return
        needed = sum(len(self.index.splits[split]) * row_bytes(geometry) for split, geometry, _ in views.values())
        refused = self._refusal(list(views), needed)
        if refused is None:
            try:
                with ExitStack() as stack:
                    for key in sorted(views):  # in one order, so that no two processes wait for each other
                        stack.enter_context(locked(self.root, key))
                    missing = [view for view in views.values() if self._load(*view) is None]
                    build_together(self.index, missing, self.options.max_pixels, self.root, self._pool, self.counter)
                    self._built |= {key for _, _, key in missing}
            except OSError as error:
                refused = self._explain(error)
        if refused is not None:
            raise MachineError(
                f"data.store_limit: room for all decoded images is expected, since the files of {self.index.source} "
                f"are removed once they are read: {refused.why}" + (f" ({refused.where})" if refused.where else ""),
                "or free some space, or keep less: data.shots, data.ignore_splits, a smaller model.image_size",
            )
        if reader.fetcher is not None and not any(isinstance(geometry, Values) for _, geometry, _ in views.values()):
            reader.fetcher.let_go()
        for place, (view, key) in enumerate(zip(wanted, keys, strict=True)):
            found[place] = found[place] or self._load(*view, key)

    def _load(self, split: Split, geometry: Geometry, key: str) -> Entry | None:
        return load_entry(self.root, key, len(self.index.splits[split]), geometry)

    def _build(self, split: Split, geometry: Geometry, key: str) -> tuple[Entry, bool]:
        rows = self.index.splits[split]
        with locked(self.root, key):
            # Whoever held the lock before has just built it.
            entry = load_entry(self.root, key, len(rows), geometry)
            if entry is not None:
                self.counter.add(len(rows))
                return entry, False
            return build(
                self.index, split, geometry, self.options.max_pixels, self.root, key, self._pool, self.counter
            ), True

    def _tried_again(self, split: Split, geometry: Geometry, key: str, entry: Entry) -> Entry:
        """The entry of an earlier run, with rows that could not be opened then and can be now."""
        if not entry.passing:
            return entry
        try:
            with locked(self.root, key):
                entry = load_entry(self.root, key, len(self.index.splits[split]), geometry) or entry
                return try_again(
                    self.index, split, geometry, self.options.max_pixels, self.root, key, entry, self._pool
                )
        except OSError as error:
            logger.info("rows of %s that could not be opened before are left out: %s", split, error)
            return entry

    def _held_to_images(self, split: Split, geometry: Geometry, key: str, entry: Entry) -> Entry:
        """The entry with rows whose file was touched since it was written decoded anew: the same size and time do not
        make it the same image. Raises MachineError where it cannot be written."""
        slots = touched_slots(self.index, split, entry)
        if not slots:
            return entry
        try:
            with locked(self.root, key):
                entry = load_entry(self.root, key, len(self.index.splits[split]), geometry) or entry
                slots = touched_slots(self.index, split, entry)
                args = (self.index, split, geometry, self.options.max_pixels, self.root, key, entry, slots)
                entry, changed = look_again(*args, self._pool)
        except OSError as error:
            raise MachineError(
                f"data.cache_dir: {len(slots):,} images of {split} were touched since they were decoded, and the store "
                f"in {self.root} cannot be written: {error.strerror or error}",
                "name another folder (data.cache_dir), or free some space there",
            ) from error
        if changed:
            name = self.index.splits[split][changed[0]].name
            logger.warning(
                "%s: %s other content than was decoded before, though size and time are the same, such as %s.",
                split,
                "1 image has" if len(changed) == 1 else f"{len(changed):,} images have",
                name,
            )
        return entry

    def _view(self, split: Split, geometry: Geometry, entry: Entry, *, built: bool, notes: tuple[Note, ...]) -> View:
        rows = self.index.splits[split]
        redraw = Redraw(rows, self.index.reader, geometry, split, self.options.max_pixels)
        stored = StoredRows(rows, entry, geometry, redraw)
        return View(stored, _named(rows, split, entry), True, built, notes, _clipped(split, geometry, entry))

    def _on_the_fly(self, split: Split, geometry: Geometry, notes: tuple[Note, ...]) -> View:
        rows = self.index.splits[split]
        steps = geometry.preprocess.steps or () if isinstance(geometry, Exact) else ()
        entry = self._checked(split, Check(steps, geometry.value_range))
        kept = kept_slots(len(rows), entry)
        decoded = OnTheFlyRows(
            [rows[slot] for slot in kept],
            entry.sizes[kept],
            self.index.reader,
            geometry,
            split=split,
            max_pixels=self.options.max_pixels,
            workers=self.options.workers,
        )
        clipped = _clipped(split, geometry, entry)
        return View(decoded, _named(rows, split, entry), False, False, notes, clipped)

    def _checked(self, split: Split, geometry: Check) -> Entry:
        """Which rows decode, from the cache where there is one: a few bytes a row, so no limit applies."""
        key = view_key(self.index, split, geometry, self.options.max_pixels)
        entry = load_entry(self.root, key, len(self.index.splits[split]), geometry)
        if entry is not None:
            self.counter.add(len(self.index.splits[split]))
            return self._tried_again(split, geometry, key, entry)
        if not self._no_disk:
            try:
                return self._build(split, geometry, key)[0]
            except OSError as error:
                self._no_disk = self._explain(error)
        return check(self.index, split, geometry, self.options.max_pixels, self._pool, self.counter)

    def _refusal(self, keys: Sequence[str], needed: int) -> _Refused | None:
        """Why `needed` bytes may not be taken by the entries `keys`; None: they may."""
        if not needed:
            return None
        limit = self.options.limit_bytes
        if limit is not None and needed > (left := left_of(limit, self.options.used, *keys)):
            return _too_large(needed, f"data.store_limit leaves {format_bytes(left)}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # Of builds that are gone on with.
            held = sum(held_bytes(unfinished_folder(self.root, key)) for key in keys)
            make_room(self.root, (needed if limit is not None else 2 * needed) - held, self.keys)
            free = shutil.disk_usage(self.root).free + held
        except OSError as error:
            return self._explain(error)
        if limit is None and needed > free // 2:
            return _too_large(needed, f"half of the {format_bytes(free)} free is the limit")
        return None

    def _explain(self, error: OSError) -> _Refused:
        cannot = isinstance(error, PermissionError | NotADirectoryError | FileExistsError)
        if cannot and self.options.cache_dir is not None:
            raise MachineError(
                f"data.cache_dir: a folder that can be written was expected, {self.options.cache_dir} is not one: "
                f"{error.strerror or error}",
                "name another folder, or leave data.cache_dir out",
            ) from error
        where = f"{self.root} ({error.strerror or error}); free some space there or set data.cache_dir"
        return _Refused("the store cannot be written to", where)


STOCK_NOTE = Note("prepared one by one by the stock processor, whose rule cannot be written in steps (slower, once)")


def left_of(limit: int, used: Mapping[str, int], *keys: str) -> int:
    """Bytes that the entries `keys` may take beside the run's others."""
    return max(0, limit - sum(size for other, size in used.items() if other not in keys))


def _of(split: Split, note: Note) -> Note:
    return replace(note, text=f"{split}: {note.text}")


def _too_large(needed: int, why: str) -> _Refused:
    return _Refused(
        f"the store would take {format_bytes(needed)} and {why}; "
        "set data.store_limit higher or data.cache_dir to a larger disk"
    )


def _clipped(split: Split, geometry: Geometry, entry: Entry) -> Note | None:
    if geometry.value_range is None or not entry.clipped:
        return None
    held, pixels = len(entry.clipped), int(entry.sizes.prod(axis=1, dtype=np.int64).sum())
    share = 100 * sum(entry.clipped.values()) / max(1, pixels)
    beyond = f"of {len(entry.sizes):,} {split} images hold values beyond {range_text(geometry.value_range)}"
    return Note(f"{held:,} {beyond}, which are clipped ({share:.2g} % of all their pixels)")


def _named(rows: Sequence[Row], split: Split, entry: Entry) -> tuple[Rejected, ...]:
    return tuple(Rejected(rows[slot].name, split, reason) for slot, reason in sorted(entry.rejected.items()))
