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
from tqdm import tqdm

from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.ladder.probe.feature_cache import Keeper, Kept
from hf_finetune.ladder.probe.watched_forward import Passage
from hf_finetune.ladder.starting_model import as_started
from hf_finetune.machine import processes
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.prepared import Prepared

CHECKED_ROWS = 8  # images on which the ladder's short cuts are compared with the whole model


@dataclass(frozen=True)
class Passages:
    """What the pass gave. `own`: this process's rows by split; `all`: every process's, in rank order.

    `entry` is the first block of the suffix (None: no cut). `inputs` float [B, 3, H, W] are some images, normalised,
    with their `features` and the `state` that entered the suffix; `image_s`: seconds of a forward pass for one image,
    of the whole pass where there was one; `forecast_s`: of all of this process's, as forecast from the first batch.
    """

    own: Mapping[Split, Kept]
    all: Mapping[Split, list[Kept]]
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


def pass_over(
    model: nn.Module,
    ready: Prepared,
    splits: Mapping[Split, PixelRows],
    cache: Path,
    identity: str,
    autocast: torch.dtype | None,
    *,
    announce: Callable[[float, int], None],
) -> Passages:
    """Run the backbone as it starts over `splits` (this process's share), or find what an earlier run kept.

    `announce(seconds an image, images of this process still to be run)` is called once that has been measured.
    """
    plan, machine, entry = ready.plan, ready.machine, _entry(ready)
    watch = watch_of(model, ready.facts.head, entry)
    passage = Passage(model.eval(), watch, Normaliser(ready.facts.preprocess), plan.micro_batch.value, autocast)
    first = splits["train"].gather(np.arange(min(plan.micro_batch.value, len(splits["train"]))))
    with as_started(model, ready):
        width, shape, image_s = _first_batch(passage, first, plan.device.value)
        keeper = _keeper(ready, f"{identity}/{entry}/{ready.facts.head}", width, shape, cache)
        images = {split: len(range(machine.rank, len(rows), machine.world_size)) for split, rows in splits.items()}
        missing = sum(images[split] for split, rows in splits.items() if not keeper.has(len(rows), split))
        announce(image_s, missing)
        forecast_s = image_s * missing
        quiet = machine.rank != 0
        own: dict[Split, Kept]
        with tqdm(total=missing, desc="probe", unit="image", dynamic_ncols=True, disable=quiet, delay=1) as bar:
            own = {split: keeper.keep(passage, rows, split, bar.update) for split, rows in splits.items()}
        some = first[:CHECKED_ROWS]
        features, state = passage(some)  # of this very batch: int8 treats columns by what else is in it
    processes.wait()
    return Passages(
        own=own,
        all={split: keeper.everybody(own[split], len(rows), split) for split, rows in splits.items()},
        entry=entry,
        inputs=passage.normalise({"pixel_values": torch.from_numpy(some).to(next(model.parameters()).device)}),
        features=features.numpy(),
        state=state,
        image_s=_seconds_an_image(own.values(), len(first)) or image_s,
        forecast_s=forecast_s,
    )


def _first_batch(passage: Passage, first: np.ndarray, device: str) -> tuple[int, tuple[int, ...] | None, float]:
    """Width of the features, shape of an image's watched state, and seconds an image, of the first batch."""
    # The first run of a kernel is slower; a GPU chooses its kernels by the shape, and takes them from its disk.
    passage(first if device == "cuda" else first[:2])
    started = time.perf_counter()
    features, state = passage(first)
    image_s = (time.perf_counter() - started) / len(first)
    return features.shape[1], None if state is None else tuple(state.shape[1:]), image_s


def _seconds_an_image(own: Iterable[Kept], batch: int) -> float | None:
    """Of the whole pass; None where no more than one batch was run.

    One batch may take far longer than the next: a cold GPU, workers that wind down.
    """
    passes = [(len(kept.rows), kept.pass_s) for kept in own if kept.pass_s is not None]
    passed = sum(count for count, _ in passes)
    return sum(seconds for _, seconds in passes) / passed if passed > batch else None


def watch_of(model: nn.Module, head: Sequence[str], entry: str | None) -> Watch:
    """What keeps the input of the head's modules and, where asked for, of the block `entry`."""
    backbone: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return Watch([backbone.get_submodule(name) for name in head], backbone.get_submodule(entry) if entry else None)


def _keeper(ready: Prepared, identity: str, features: int, state: tuple[int, ...] | None, cache: Path) -> Keeper:
    data, machine = ready.recipe.data, ready.machine
    return Keeper(
        ready.index,
        identity,
        features,
        state,
        cache,
        data.store_limit,
        data.max_pixels,
        machine.rank,
        machine.world_size,
    )


def _entry(ready: Prepared) -> str | None:
    """The first block of the suffix, where the cached rung is planned."""
    blocks, suffix = ready.facts.blocks, ready.plan.suffix_blocks.value
    if "cached" not in ready.plan.rungs.value or not 0 < suffix < len(blocks):
        return None
    return blocks[len(blocks) - suffix]
