"""The ladder's one pass over the images: what it watches, what it keeps, and how long an image takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from tqdm import tqdm

from hf_finetune import processes
from hf_finetune.backbones.split import Watch
from hf_finetune.inference import Normaliser
from hf_finetune.ladder.hidden import Keeper, Kept, Passage
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared


@dataclass(frozen=True)
class Passages:
    """What the pass gave. `own`: this process's rows by split; `all`: every process's, in rank order.

    `entry` is the first block of the suffix (None: no cut). `inputs` float [B, 3, H, W] are the first images,
    normalised, with their `first_features` and `first_state`; `image_s`: seconds of a forward pass for one image,
    `forecast_s` of all of them that are this process's.
    """

    backbone: nn.Module
    own: Mapping[Split, Kept]
    all: Mapping[Split, list[Kept]]
    entry: str | None
    inputs: torch.Tensor
    first_features: np.ndarray
    first_state: torch.Tensor | None
    image_s: float
    forecast_s: float
    found: bool

    def first_hidden(self) -> torch.Tensor:
        """The state of the first images at the cut."""
        if self.first_state is None:
            raise ValueError("no state was watched")
        return self.first_state


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
    """Run the frozen backbone over `splits` (this process's share), or find what an earlier run kept.

    `announce(seconds an image, images of this process)` is called once that has been measured.
    """
    facts, plan, machine = ready.facts, ready.plan, ready.machine
    backbone = model.get_base_model() if isinstance(model, PeftModel) else model
    entry = _entry(ready)
    watch = Watch(
        [backbone.get_submodule(name) for name in facts.head],  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        backbone.get_submodule(entry) if entry else None,  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    )
    model.eval()
    passage = Passage(model, watch, Normaliser(facts.preprocess), plan.micro_batch.value, autocast)
    first = splits["train"].gather(np.arange(min(plan.micro_batch.value, len(splits["train"]))))
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        passage(first[:2])  # the first run of a kernel is slower
        started = time.perf_counter()
        features, state = passage(first)
        image_s = (time.perf_counter() - started) / len(first)
        images = sum(len(range(machine.rank, len(rows), machine.world_size)) for rows in splits.values())
        announce(image_s, images)
        kept = Keeper(
            ready.index,
            f"{identity}/{entry}/{facts.head}",
            features.shape[1],
            tuple(state.shape[1:]) if entry is not None and state is not None else None,
            cache,
            ready.recipe.data.store_limit,
            ready.recipe.data.max_pixels,
            machine.rank,
            machine.world_size,
        )
        with tqdm(
            total=images, desc="probe", unit="image", dynamic_ncols=True, disable=machine.rank != 0, delay=1
        ) as bar:
            own: dict[Split, Kept] = {
                split: kept.keep(passage, rows, split, bar.update) for split, rows in splits.items()
            }
    processes.wait()
    everybody: dict[Split, list[Kept]] = {
        split: kept.everybody(own[split], len(rows), split) for split, rows in splits.items()
    }
    inputs = passage.normalise({"pixel_values": torch.from_numpy(first).to(next(model.parameters()).device)})
    return Passages(
        backbone=backbone,  # pyright: ignore[reportArgumentType]
        own=own,
        all=everybody,
        entry=entry,
        inputs=inputs,
        first_features=features.numpy(),
        first_state=state,
        image_s=image_s,
        forecast_s=image_s * images,
        found=all(kept.found for kept in own.values()),
    )


def _entry(ready: Prepared) -> str | None:
    """The first block of the suffix, where the cached rung is planned."""
    blocks, suffix = ready.facts.blocks, ready.plan.suffix_blocks.value
    if "cached" not in ready.plan.rungs.value or not 0 < suffix < len(blocks):
        return None
    return blocks[len(blocks) - suffix]


@torch.no_grad()
def token_count(backbone: nn.Module, block: str, size: tuple[int, int]) -> int | None:
    """How many tokens enter a block for an image of `size`; None where what enters is not [B, tokens, D]."""
    watch = Watch([], backbone.get_submodule(block))
    device = next(backbone.parameters()).device
    backbone.eval()  # in train mode a blank image would count in the statistics of trained norms
    with watch:
        backbone(pixel_values=torch.zeros(1, 3, *size, device=device))
    return watch.hidden.shape[1] if watch.hidden is not None and watch.hidden.ndim == 3 else None
