"""The ladder's one pass over the images: what it watches, what it keeps, and how long an image takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from hf_finetune.backbones.engines.choose import Offer
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import EngineRefusedError
from hf_finetune.backbones.engines.graph import identity as graph_identity
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.ladder.probe.engines import Gone, PassEngine, check_kept, choose_engine, record, recorded
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_cache import FeatureCache, SplitFeatures
from hf_finetune.ladder.starting_model import as_started
from hf_finetune.machine import processes
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.report.progress import Progress
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

logger = logging.getLogger(__name__)
CHECKED_ROWS = 8  # images on which the ladder's short cuts are compared with the whole model


@dataclass(frozen=True)
class FeaturePlace:
    """Where features are kept, and a digest of whatever decides them beside the images (`identity_of`).

    `record`: the file that says which engine the run began with (None: nothing goes on from here).
    """

    root: Path
    identity: str
    record: Path | None = None


@dataclass(frozen=True)
class PassResult:
    """What the pass gave. `own`: this process's rows by split; `all`: every process's, in rank order.

    `entry` is the first block of the suffix (None: no cut). `inputs` float [B, 3, H, W] are some images, normalised,
    with their `features` and the `state` that entered the suffix, by the torch model; `image_s`: seconds of its forward
    pass for one image, of the whole pass where it made one, of the sample that another engine was compared on;
    `forecast_s`: of all of this process's, as forecast from the first batch. `engine` made the features of `own` and
    `all`.
    """

    own: Mapping[Split, SplitFeatures]
    all: Mapping[Split, list[SplitFeatures]]
    entry: str | None
    inputs: torch.Tensor
    features: np.ndarray
    state: torch.Tensor | None
    image_s: float
    forecast_s: float
    engine: PassEngine

    @property
    def found(self) -> bool:
        """Whether nothing had to be run here."""
        return all(kept.pass_s is None for kept in self.own.values())


def extract_features(
    model: nn.Module,
    context: RunContext,
    splits: Mapping[Split, PixelRows],
    place: FeaturePlace,
    autocast: torch.dtype | None,
    *,
    announce: Callable[[float, int], None],
    offer: Offer | None = None,
) -> PassResult:
    """Run the backbone as it starts over `splits` (this process's share), or find what an earlier run kept.

    `announce(seconds an image, images of this process still to be run)` is called once that has been measured. `offer`
    is an engine that may run it instead of the torch model (engine_ahead.py).
    """
    plan, machine, entry = context.plan, context.machine, entry_of(context)
    watch = watch_of(model, context.facts.head, entry)
    extractor = FeatureExtractor(
        Eager(model, watch, autocast), Normaliser(context.facts.preprocess), plan.micro_batch.value
    )
    first = splits["train"].gather(np.arange(min(plan.micro_batch.value, len(splits["train"]))))
    with as_started(model, context):
        width, shape, image_s = _first_batch(extractor, first, plan.device.value)
        kept = _Kept(context, splits, lambda engine: cache_of_features(context, place, entry, width, shape, engine))
        begun = recorded(place.record)
        if (found := _found_of_graph(kept, extractor, begun)) is not None:
            engine, own = found
            missing = 0
            announce(image_s, missing)
        else:
            engine = _chosen(kept, extractor, offer or Offer(), begun, image_s)
            missing = kept.missing(engine.identity)
            announce(engine.image_s, missing)
            own = kept.passed(engine.extractor, engine.identity)
        if machine.is_first:
            record(place.record, engine.identity, engine.figures)
        some = first[:CHECKED_ROWS]
        features, state = extractor(some)  # of this very batch: int8 treats columns by what else is in it
    if offer is not None:
        offer.engine = None
    engine = replace(engine, extractor=extractor)  # a graph is a copy of the weights, and is not needed any more
    processes.wait()
    cache = kept.cache_by(engine.identity)
    return PassResult(
        own=own,
        all={split: cache.everybody(own[split], len(rows), split) for split, rows in splits.items()},
        entry=entry,
        inputs=extractor.inputs(some),
        features=features.numpy(),
        state=state,
        image_s=(engine.eager_s if engine.identity else _seconds_an_image(own.values(), len(first))) or image_s,
        forecast_s=engine.image_s * missing,
        engine=engine,
    )


@dataclass(frozen=True)
class _Kept:
    """What is kept of the pass over `splits`, by engine (its identity)."""

    context: RunContext
    splits: Mapping[Split, PixelRows]
    cache_by: Callable[[str], FeatureCache]

    def missing(self, engine: str) -> int:
        """How many images of this process are still to be run."""
        cache, machine = self.cache_by(engine), self.context.machine
        counts: dict[Split, int] = {split: len(rows) for split, rows in self.splits.items()}
        return sum(len(machine.own_rows(count)) for split, count in counts.items() if not cache.has(count, split))

    def passed(self, extractor: FeatureExtractor, engine: str) -> dict[Split, SplitFeatures]:
        """The features of all `splits`, run where they are missing."""
        cache = self.cache_by(engine)
        with Progress("probe", "image", self.missing(engine), shown=self.context.machine.is_first) as bar:
            return {split: cache.keep(extractor, rows, split, bar.update) for split, rows in self.splits.items()}


def _found_of_graph(
    kept: _Kept, extractor: FeatureExtractor, begun: str | None
) -> tuple[PassEngine, dict[Split, SplitFeatures]] | None:
    """All features as the graph engine left them in the cache, where this run may use them: it began with that engine,
    or the recipe allows it and the torch model left none."""
    wanted = kept.context.recipe.model.engine
    if begun == "" or wanted in ("eager", "int8") or kept.context.machine.world_size > 1:
        return None
    identity = begun or graph_identity(kept.context.plan.precision.value)
    if kept.missing(identity) or (begun is None and wanted == "auto" and not kept.missing("")):
        return None
    try:
        own = kept.passed(replace(extractor, engine=Gone()), identity)
    except EngineRefusedError:  # something was there and was damaged
        return None
    found = check_kept(extractor, own, kept.splits, identity)
    return None if found is None else (found, own)


def _chosen(kept: _Kept, extractor: FeatureExtractor, offer: Offer, begun: str | None, image_s: float) -> PassEngine:
    """The engine of a pass that is still to be made, or whose features the torch model left."""
    wanted, missing = kept.context.recipe.model.engine, kept.missing("")
    if begun == "" or wanted in ("eager", "int8") or (wanted == "auto" and not missing):
        return PassEngine(extractor, "", image_s)
    engine = choose_engine(extractor, wanted, kept.splits, offer, image_s, missing)
    if begun and engine.identity != begun:
        logger.info("%s began the run and cannot go on with it: the pass is made anew by the torch model.", begun)
    return engine


def _first_batch(
    extractor: FeatureExtractor, first: np.ndarray, device: str
) -> tuple[int, tuple[int, ...] | None, float]:
    """Width of the features, shape of an image's watched state, and seconds an image, of the first batch."""
    # The first run of a kernel is slower; a GPU chooses its kernels by the shape, and takes them from its disk.
    extractor(first if device == "cuda" else first[:2])
    started = time.perf_counter()
    features, state = extractor(first)
    image_s = (time.perf_counter() - started) / len(first)
    return features.shape[1], None if state is None else tuple(state.shape[1:]), image_s


def _seconds_an_image(own: Iterable[SplitFeatures], batch: int) -> float | None:
    """Of the whole pass; None where no more than one batch was run.

    One batch may take far longer than the next: a cold GPU, workers that wind down.
    """
    passes = [(len(kept.rows), kept.pass_s) for kept in own if kept.pass_s is not None]
    count_passed = sum(count for count, _ in passes)
    return sum(seconds for _, seconds in passes) / count_passed if count_passed > batch else None


def watch_of(model: nn.Module, head: Sequence[str], entry: str | None) -> Watch:
    """What keeps the input of the head's modules and, where asked for, of the block `entry`."""
    backbone: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return Watch([backbone.get_submodule(name) for name in head], backbone.get_submodule(entry) if entry else None)


def cache_of_features(
    context: RunContext,
    place: FeaturePlace,
    entry: str | None,
    features: int,
    state: tuple[int, ...] | None,
    engine: str = "",
) -> FeatureCache:
    """What is kept of the pass by an engine (its identity): of each image `features` numbers, and a state."""
    data = context.recipe.data
    what = f"{place.identity}/{entry}/{context.facts.head}"
    return FeatureCache(
        context.index,
        f"{what}/{engine}" if engine else what,
        features,
        state,
        place.root,
        data.store_limit,
        data.max_pixels,
        context.machine,
        context.on_disk,
    )


def entry_of(context: RunContext) -> str | None:
    """The first block of the suffix, where the cached rung is planned."""
    blocks, suffix = context.facts.blocks, context.plan.suffix_blocks.value
    if "cached" not in context.plan.rungs.value or not 0 < suffix < len(blocks):
        return None
    return blocks[len(blocks) - suffix]
