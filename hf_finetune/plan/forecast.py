"""The coarse memory forecast of a training step, by part. Pure arithmetic; a precise one is a later issue.

What is known exactly: weights, gradients, optimizer state. What is coarse: activations, taken from what autograd keeps
for one image on the meta device, scaled by rules of thumb (labelled below).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.training.optimizers import OPTIMIZERS
from hf_finetune.types import BackboneFacts, Machine

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
# Interpreter, torch, transformers and peft once imported: about 930 MB (ours, 2026-11-23); on a CPU it counts.
PROCESS_BYTES = 1_000_000_000
# Where the architecture could not be traced: bytes kept per parameter and image. Assumption (ViT-Tiny at 224 px: ~20).
UNTRACED_BYTES_PER_PARAMETER = 20


@dataclass(frozen=True)
class Forecast:
    """Bytes on the training device as a function of the micro-batch."""

    fixed: Mapping[str, int]
    per_image: int
    blocks: int
    note: str

    def parts(self, micro_batch: int, checkpointing: bool) -> dict[str, int]:
        """Bytes by part."""
        kept = self.per_image * micro_batch
        if checkpointing and self.blocks:
            # One map a block, and one whole block at a time (1 map · depth, and 16 once).
            kept = int(kept * (1 / self.blocks + 1 / 16))
        return {**self.fixed, "activations": kept}

    def total(self, micro_batch: int, checkpointing: bool) -> int:
        """Bytes in all."""
        return sum(self.parts(micro_batch, checkpointing).values())


def forecast(recipe: Recipe, machine: Machine, facts: BackboneFacts, trainable: int, precision: str) -> Forecast:
    """What a training step of this recipe takes on this machine, in bytes by part."""
    frozen = 0 if recipe.adapter.whole else recipe.quantization.weight_bytes(facts, BYTES[precision])
    whole = facts.saved_bytes_per_image or UNTRACED_BYTES_PER_PARAMETER * facts.parameters
    fixed = {
        "frozen weights": frozen,
        "trained weights": 4 * trainable,
        "gradients": 4 * trainable,
        "optimizer": OPTIMIZERS[recipe.train.optimizer].state_bytes * trainable,
    }
    if machine.device == "cpu":
        fixed["process"] = PROCESS_BYTES
    return Forecast(
        fixed=fixed,
        per_image=int(whole * recipe.adapter.activation_share * BYTES[precision] / 4),
        blocks=len(facts.blocks),
        note="coarse: activations may be off by half; out of memory halves the micro-batch and replays the update",
    )
