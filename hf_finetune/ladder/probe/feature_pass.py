"""The ladder's one pass over the images: what it watches, what it keeps, and how long an image takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_cache import FeatureCache, SplitFeatures
from hf_finetune.ladder.starting_model import as_started
from hf_finetune.machine import processes
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.report.progress import Progress
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

CHECKED_ROWS = 8  # images on which the ladder's short cuts are compared with the whole model


@dataclass(frozen=True)
class FeaturePlace:
    """Where features are kept, and a digest of whatever decides them beside the images (`identity_of`)."""

    root: Path
    identity: str


@dataclass(frozen=True)
class PassResult:
    """What the pass gave. `own`: this process's rows by split; `all`: every process's, in rank order.

    `entry` is the first block of the suffix (None: no cut). `inputs` float [B, 3, H, W] are some images, normalised,
    with their `features` and the `state` that entered the suffix; `image_s`: seconds of a forward pass for one image,
    of the whole pass where there was one; `forecast_s`: of all of this process's, as forecast from the first batch.
    """

    own: Mapping[Split, SplitFeatures]
    all: Mapping[Split, list[SplitFeatures]]
    entry: str | None
    inputs: torch.Tensor
    features: np.ndarray
    state: torch.Tensor | None
    image_s: float
    forecast_s: float

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
) -> PassResult:
    """Run the backbone as it starts over `splits` (this process's share), or find what an earlier run kept.

    `announce(seconds an image, images of this process still to be run)` is called once that has been measured.
    """
    plan, machine, entry = context.plan, context.machine, _entry(context)
    watch = watch_of(model, context.facts.head, entry)
    extractor = FeatureExtractor(
        model.eval(), watch, Normaliser(context.facts.preprocess), plan.micro_batch.value, autocast
    )
    first = splits["train"].gather(np.arange(min(plan.micro_batch.value, len(splits["train"]))))
    with as_started(model, context):
        width, shape, image_s = _first_batch(extractor, first, plan.device.value)
        cache = _cache(context, place, f"{entry}/{context.facts.head}", width, shape)
        images = {split: len(machine.own_rows(len(rows))) for split, rows in splits.items()}
        missing = sum(images[split] for split, rows in splits.items() if not cache.has(len(rows), split))
        announce(image_s, missing)
        forecast_s = image_s * missing
        own: dict[Split, SplitFeatures]
        with Progress("probe", "image", missing, shown=machine.is_first) as bar:
            own = {split: cache.keep(extractor, rows, split, bar.update) for split, rows in splits.items()}
        some = first[:CHECKED_ROWS]
        features, state = extractor(some)  # of this very batch: int8 treats columns by what else is in it
    processes.wait()
    return PassResult(
        own=own,
        all={split: cache.everybody(own[split], len(rows), split) for split, rows in splits.items()},
        entry=entry,
        inputs=extractor.normalise({"pixel_values": torch.from_numpy(some).to(next(model.parameters()).device)}),
        features=features.numpy(),
        state=state,
        image_s=_seconds_an_image(own.values(), len(first)) or image_s,
        forecast_s=forecast_s,
    )


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


def _cache(
    context: RunContext, place: FeaturePlace, what: str, features: int, state: tuple[int, ...] | None
) -> FeatureCache:
    data = context.recipe.data
    return FeatureCache(
        context.index,
        f"{place.identity}/{what}",
        features,
        state,
        place.root,
        data.store_limit,
        data.max_pixels,
        context.machine,
    )


def _entry(context: RunContext) -> str | None:
    """The first block of the suffix, where the cached rung is planned."""
    blocks, suffix = context.facts.blocks, context.plan.suffix_blocks.value
    if "cached" not in context.plan.rungs.value or not 0 < suffix < len(blocks):
        return None
    return blocks[len(blocks) - suffix]
