"""Which backbone to take where a person names none: by machine, number of images and time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hf_finetune.plan.speed import FIXED_S, stated, stated_flops
from hf_finetune.types import Decision, Machine
from hf_finetune.units import format_seconds


@dataclass(frozen=True)
class Backbone:
    """`flops`: operations of a forward pass over one image at 224 px; `least_bytes`: of the device that trains."""

    name: str
    size: str
    parameters: int
    flops: float
    least_bytes: float


# By size. Self-supervised DINOv2 (Oquab et al. 2023, arXiv 2304.07193) above the smallest: its features tell most kinds
# apart as they are. Bytes are assumptions: weights in float32 twice, and room for a small micro-batch.
BACKBONES = (
    Backbone("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "tiny", 5_700_000, 2.5e9, 1.3e9),
    Backbone("facebook/dinov2-small", "small", 22_000_000, 11e9, 2.0e9),
    Backbone("facebook/dinov2-base", "base", 86_000_000, 46e9, 4.0e9),
    Backbone("facebook/dinov2-large", "large", 304_000_000, 160e9, 8.0e9),
)
# A run of everything that is planned should end in about this time, where no budget says how long. Assumption.
PATIENCE_S = 600.0


def default_backbone(
    machine: Machine, images: int, budget_s: float | None, among: Sequence[Backbone] = BACKBONES
) -> Decision[Backbone]:
    """The largest that ends in time and fits the memory, else the smallest. `images`: rows that train."""
    limit_s = PATIENCE_S if budget_s is None else budget_s

    def fits(backbone: Backbone) -> bool:
        in_time = _seconds(backbone, machine, images, budget_s) <= limit_s
        return in_time and backbone.least_bytes <= machine.device_memory_bytes

    chosen = next((each for each in reversed(among) if fits(each)), among[0])
    limit = "about ten minutes" if budget_s is None else f"budget.time {format_seconds(budget_s)}"
    why = f"{'the largest' if fits(chosen) else 'the smallest'} of {len(among)} for {images:,} images in {limit}"
    return Decision(chosen, f"{why}, at a stated {stated(machine)}")


def _seconds(backbone: Backbone, machine: Machine, images: int, budget_s: float | None) -> float:
    """Of a whole run: the pass over the images, the cached rung (half of the blocks and patches), and without a budget
    the full one (half of the patches). A pass forward and back is three forward."""
    cached = 0.75 * min(30 * images, max(6_000, 4 * images))
    full = 1.5 * min(30 * images, max(20_000, 3 * images)) if budget_s is None else 0.0
    return FIXED_S + (images + cached + full) * backbone.flops / (stated_flops(machine) * machine.world_size)
