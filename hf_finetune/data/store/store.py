"""The image store: every row decoded once, into memory-mapped files that later runs and other ranks reuse.

Owns which views a run gets and what becomes of rows that cannot be read. How a view is found, built or replaced by
decoding on the fly is in `open_views.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_finetune.data.store.open_views import Options, Progress, open_views
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.rejects import check_rejected
from hf_finetune.data.store.views import Exact, Geometry, Squash, Stock
from hf_finetune.types import SPLITS, Index, Note, PixelRows, Preprocess, Rejected, Split


@dataclass(frozen=True)
class Store:
    """Every split of the index: training rows squashed whole (or late: see `open_store`), the others as the checkpoint
    sees them."""

    rows: Mapping[Split, PixelRows]
    rejected: tuple[Rejected, ...]
    on_disk: bool
    notes: tuple[Note, ...]
    built: bool
    seconds: float


def open_store(
    index: Index,
    preprocess: Preprocess,
    *,
    train_side: int | None,
    workers: int,
    cache_dir: Path | None,
    limit_bytes: int | None,
    max_bad_share: float,
    max_pixels: int,
    progress: Progress | None = None,
    processor: tuple[str, str | None] | None = None,
    pool: WorkerPool | None = None,
    used: dict[str, int] | None = None,
    train_as_seen: bool = False,
) -> Store:
    """All splits, reused or built. `progress(done, total)` counts the rows that had to be decoded.

    `train_side`: of the squashed training rows; None for training rows as the checkpoint sees them, for runs that may
    never need the others; with `train_as_seen` those are decoded along with the squashed ones, for later. `processor`:
    name and revision of the stock processor, needed where `preprocess.steps` is None. `pool`: workers that were started
    early; they stay open. `used`: see `Options`. Raises DataError for too many unreadable rows, and for a class or a
    split that lost all of its rows; MachineError for workers that do not run and for a `cache_dir` that cannot be
    written.
    """
    started = time.perf_counter()
    options = Options(workers, cache_dir, limit_bytes, max_pixels, {} if used is None else used)
    evaluation = evaluation_geometry(preprocess, processor)
    wanted: list[tuple[Split, Geometry]] = [
        (split, evaluation if train_side is None or split != "train" else squashed(train_side, preprocess))
        for split in SPLITS
        if split in index.splits
    ]
    along: list[tuple[Split, Geometry]] = [("train", evaluation)] if train_as_seen and train_side is not None else []
    views = open_views(index, [*wanted, *along], options, pool=pool, progress=progress)[: len(wanted)]
    rejected = tuple(row for view in views for row in view.rejected)
    rows: dict[Split, PixelRows] = {split: view.rows for (split, _), view in zip(wanted, views, strict=True)}
    check_rejected(index, rejected, rows, max_bad_share)
    return Store(
        rows=rows,
        rejected=rejected,
        on_disk=all(view.on_disk for view in views),
        notes=tuple(dict.fromkeys(note for view in views for note in (*view.notes, view.clipped) if note is not None)),
        built=any(view.built for view in views),
        seconds=time.perf_counter() - started,
    )


def squashed(side: int, preprocess: Preprocess) -> Squash:
    """The geometry of rows to train on."""
    return Squash(side, preprocess.resample, preprocess.value_range)


def evaluation_geometry(preprocess: Preprocess, processor: tuple[str, str | None] | None) -> Geometry:
    """The checkpoint's own geometry; through its stock processor where the rule has no steps."""
    if preprocess.steps is not None:
        return Exact(preprocess)
    if processor is None:
        raise ValueError(f"{preprocess.source} has no steps: the stock processor's name is needed")
    from hf_finetune.preprocess.stock import stock_processor, stock_renderer

    return Stock(preprocess, stock_renderer(stock_processor(*processor)))
