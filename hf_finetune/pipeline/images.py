"""The decoded images of a run: which views of its splits it opens, and when; the model is built meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.errors import DataError
from hf_finetune.pipeline.model import build_with_head, describe
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.report.progress import Progress
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import SPLITS, PixelRows, Rejected, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.backbones.engines.choose import Offer
    from hf_finetune.backbones.own_head import OwnHead
    from hf_finetune.data.store.open_views import Options, View
    from hf_finetune.data.store.pool import WorkerPool
    from hf_finetune.data.store.store import Store
    from hf_finetune.data.store.views import Geometry
    from hf_finetune.ladder.probe.feature_pass import FeaturePlace
    from hf_finetune.result.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """The decoded images: `store`, and the training rows as the checkpoint itself sees them (None: no rung asks)."""

    store: Store
    probe_rows: PixelRows | None
    rows: Mapping[Split, PixelRows]

    @property
    def changed_s(self) -> float:
        """When kept images last became others than they were decoded as, as `time.time()` counts; 0: never."""
        from hf_finetune.data.store.stored_rows import StoredRows

        kept = [each for each in (*self.store.rows.values(), self.probe_rows) if isinstance(each, StoredRows)]
        return max((each.changed_s for each in kept), default=0.0)


def open_images(context: RunContext, pool: WorkerPool | None = None) -> Images:
    """The decoded images, built now or found from an earlier run.

    `pool`: workers that may be at work already; they stay open. What is noteworthy about the images is logged. Training
    rows as `full` wants them wait until it asks where a time budget may never let it.
    """
    from hf_finetune.data.sources.streamed.reader import StreamedReader

    rungs = context.plan.rungs.value
    # Files that come and go are fetched for all views at once.
    may_wait = context.recipe.budget.time is not None and not isinstance(context.index.reader, StreamedReader)
    late = "probe" in rungs and ("full" not in rungs or may_wait)
    store = _open_store(context, None if late else context.plan.train_side.value, pool)
    for note in store.notes:
        logger.info("%s", note)
    if not len(store.rows["train"]):
        raise DataError(f"data.name: no training image of {context.index.source} could be read.")
    if not late:
        probe_rows = open_probe_rows(context, pool)
        _check_same_rows(store.rows["train"], probe_rows)
        return Images(store, probe_rows, store.rows)
    from hf_finetune.data.store.late_rows import LateRows

    seen = store.rows["train"]
    wanted = LateRows(seen, lambda: _open_training_rows(context))
    return Images(store, seen, {**store.rows, "train": wanted})


def _open_store(context: RunContext, train_side: int | None, pool: WorkerPool | None) -> Store:
    from hf_finetune.data.sources.streamed.reader import StreamedReader
    from hf_finetune.data.store.store import open_store

    data = context.recipe.data
    with Progress("decoding", "image", 0, shown=context.machine.is_first) as bar:
        return open_store(
            context.index,
            context.facts.preprocess,
            train_side=train_side,
            workers=context.plan.decode_workers.value,
            cache_dir=cache_folder(context.recipe),
            limit_bytes=data.store_limit,
            max_bad_share=data.max_bad_share,
            max_pixels=data.max_pixels,
            pool=pool,
            progress=bar.to,
            processor=(context.recipe.model.name, context.facts.commit),
            used=context.on_disk,
            train_as_seen="probe" in context.plan.rungs.value and isinstance(context.index.reader, StreamedReader),
        )


def open_probe_rows(context: RunContext, pool: WorkerPool | None = None) -> PixelRows | None:
    """The training rows as the checkpoint itself sees them, for the probe; None where no rung needs them."""
    if "probe" not in context.plan.rungs.value:
        return None
    return _open_train(context, _as_evaluated(context), pool).rows


def open_readable_rows(context: RunContext) -> tuple[PixelRows, tuple[Rejected, ...]]:
    """The training rows as the checkpoint itself sees them, and those that cannot be read. Raises DataError where they
    are more than `data.max_bad_share`."""
    from hf_finetune.data.store.rejects import check_rejected

    view = _open_train(context, _as_evaluated(context))
    check_rejected(context.index, view.rejected, {"train": view.rows}, context.recipe.data.max_bad_share)
    return view.rows, view.rejected


def open_every_row(context: RunContext) -> tuple[dict[Split, PixelRows], tuple[Rejected, ...]]:
    """The rows of every split as the checkpoint itself sees them, and those that cannot be read, however many."""
    from hf_finetune.data.store.open_views import open_views

    splits: list[Split] = [split for split in SPLITS if context.index.splits.get(split)]
    geometry = _as_evaluated(context)
    wanted: list[tuple[Split, Geometry]] = [(split, geometry) for split in splits]
    with Progress("decoding", "image", 0, shown=context.machine.is_first) as bar:
        views = open_views(context.index, wanted, _options(context), progress=bar.to)
    for note in (note for view in views for note in view.notes):
        logger.info("%s", note)
    rows: dict[Split, PixelRows] = {
        split: view.rows for split, view in zip(splits, views, strict=True) if len(view.rows)
    }
    if "train" not in rows:
        raise DataError(f"data.name: no training image of {context.index.source} could be read.")
    return rows, tuple(row for view in views for row in view.rejected)


def _as_evaluated(context: RunContext) -> Geometry:
    from hf_finetune.data.store.store import evaluation_geometry

    return evaluation_geometry(context.facts.preprocess, (context.recipe.model.name, context.facts.commit))


def _open_training_rows(context: RunContext) -> PixelRows:
    from hf_finetune.data.store.store import squashed

    return _open_train(context, squashed(context.plan.train_side.value, context.facts.preprocess)).rows


def _open_train(context: RunContext, geometry: Geometry, pool: WorkerPool | None = None) -> View:
    from hf_finetune.data.store.open_views import open_views

    (view,) = open_views(context.index, [("train", geometry)], _options(context), pool=pool)
    return view


def _options(context: RunContext) -> Options:
    from hf_finetune.data.store.open_views import Options

    data = context.recipe.data
    cache = cache_folder(context.recipe)
    return Options(context.plan.decode_workers.value, cache, data.store_limit, data.max_pixels, context.on_disk)


def _check_same_rows(train: PixelRows, probe: PixelRows | None) -> None:
    """Raise DataError where one view holds rows that the other could not draw: states and labels would not match."""
    if probe is None or list(probe.names) == list(train.names):
        return
    odd = sorted(set(probe.names) ^ set(train.names))
    raise DataError(
        f"data.name: {len(odd)} training images can be drawn in one of the two ways that the ladder needs and not in "
        f"the other (cropped to train on, whole to evaluate), such as {odd[0]}.",
        "Remove them (an extreme strip is the usual case), or leave one way out: ladder=[full] or ladder=[probe].",
    )


def cache_folder(recipe: Recipe) -> Path | None:
    """Where the recipe wants the store; None: in its usual place."""
    folder = recipe.data.cache_dir
    return Path(folder).expanduser() if folder else None


def cache_of(context: RunContext) -> Path:
    """Where the store and the features are kept."""
    from hf_finetune.files.cache import cache_root

    return cache_root(cache_folder(context.recipe))


def features_place(context: RunContext, manifest: Manifest, folder: RunFolder | None = None) -> FeaturePlace:
    """Where the pass over the frozen backbone keeps what it gives, and the run in `folder` its engine's name."""
    from hf_finetune.ladder.probe.feature_cache import identity_of
    from hf_finetune.ladder.probe.feature_pass import FeaturePlace

    identity = identity_of(manifest, context.plan, context.start_digest)
    return FeaturePlace(cache_of(context), identity, None if folder is None else folder.engine)


def open_and_build(
    context: RunContext, folder: RunFolder, clock: Clock
) -> tuple[Images, tuple[nn.Module, OwnHead], Offer]:
    """Images, and the model with what its base's own head answers and an engine for its pass, at the same time: rows
    that cannot be read change counts in the plan, not the model.

    A stock processor decodes in this process and could not be interrupted in a thread, so that it comes first.
    """
    from hf_finetune.pipeline.ahead import ahead

    def open_timed(pool: WorkerPool | None) -> Images:
        with clock.stage("images"):
            return open_images(context, pool)

    def build() -> tuple[nn.Module, OwnHead]:
        with clock.stage("model"):
            return build_with_head(context)

    def prepared(model: nn.Module) -> Offer:
        from hf_finetune.ladder.probe.engine_ahead import engine_ahead

        with clock.stage("engine"):
            return engine_ahead(
                model, context, features_place(context, describe(context), folder), ("train", "validation")
            )

    if context.facts.preprocess.steps is None:
        images, built = open_timed(None), build()
        return images, built, prepared(built[0])
    with ahead(open_timed, context.plan.decode_workers.value) as opened:
        built = build()
        import hf_finetune.ladder.climb  # noqa: F401 - what training imports, while images decode

        offer = prepared(built[0])
        return opened(), built, offer
