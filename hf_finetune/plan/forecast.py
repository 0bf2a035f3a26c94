"""The memory forecast of a run, by part: the largest of its phases. Pure arithmetic on what was counted.

What is counted: weights, gradients, optimizer state, and every tensor of a step (counted.py). What is measured: the
process itself, the allocator's holes and the kernels' own workspaces (docs/experiments.md, "Memory: forecast and
measured").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from hf_finetune.backbones.counting.step_bytes import StepBytes, recomputing
from hf_finetune.plan.arithmetic import KEPT, activations_of
from hf_finetune.plan.counted import Count, Setting
from hf_finetune.plan.heap import heap_bytes
from hf_finetune.plan.rates import averages_weights
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.training.optimizers import OPTIMIZERS
from hf_finetune.types import BackboneFacts, Machine

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
# Anonymous bytes of the process once everything is imported, for a machine that is not this one: torch for CUDA 13,
# transformers, peft, timm (AMD EPYC, 2026-11-28).
PROCESS_BYTES = 600_000_000
# What a run imports and makes after its plan: the Trainer, the ladder, kernels compiled by oneDNN.
STILL_TO_COME = 120_000_000
# Where the order of a step's tensors is not known: holes of a CPU's heap between them, as a share. Assumption.
CPU_HOLES = 0.4
# Share of the cut-off ends of a heap's blocks that small objects take for a step (heap.py), by what keeps tensors.
# Measured (docs/experiments.md, "Memory: forecast and measured").
PINNED = {"python": 1.0, "torch": 0.5, "made again": 0.4, "recomputed": 0.15, "little kept": 0.15}
LEAST_EVAL_BATCH = 4  # images; ViT-Tiny in int8: 2.9 s at 16, 7.3 s at 1 for 22 images and what is around them
# Rows, and rows × outputs, of a piece that heads are fitted by; how many of them and of matrices of features × outputs
# are held at a time in float64. Counted by memray with 5,000 and 20,000 classes (2026-11-30).
HEAD_ROWS, HEAD_NUMBERS = 4096, 4_000_000
_HEAD_PIECES, _HEAD_MATRICES = 5, 6
# What a row of the index takes until the end, with its name, label and answers, on top of the first few thousand
# (docs/experiments.md, "Tar shards, and memory against the number of images").
ROW_BYTES = 1_000
# Of all tensors on a GPU: what torch reserves beyond what is used, and the workspaces of cuBLAS.
GPU_HOLES, GPU_WORKSPACE = 0.06, 80_000_000
# Where a step could not be counted: bytes kept per parameter and image in float32. Assumption (ViT-Tiny: ~20).
UNTRACED_BYTES_PER_PARAMETER = 20


class DataSize(NamedTuple):
    """How many outputs the head has, and how many rows all splits."""

    outputs: int
    rows: int


@dataclass(frozen=True)
class Forecast:
    """Bytes on the training device as a function of micro-batch and recomputed blocks.

    `fixed`: what does not depend on either; `evaluations`: passes without gradients; `heads`: what
    fitting the probe's head takes, while no step is in memory; `expected`: the
    setting with the patches that the plan keeps. `total` is with all of them, since a head that needs all gets all;
    `parts` is what is expected.
    """

    fixed: Mapping[str, int]
    evaluations: tuple[StepBytes, ...]
    setting: Setting
    expected: Setting
    count: Count
    blocks: int
    share: int  # images of this process an update
    heads: int
    fallback: StepBytes
    on_cpu: bool
    note: str = ""

    def step(self, recomputed: int, setting: Setting | None = None) -> StepBytes:
        """What a training step holds with this many blocks recomputed."""
        setting = setting or self.setting
        plain = self.count(setting) or self.fallback
        if recomputed <= 0:
            return plain
        every = self.count(replace(setting, recomputed=True)) or _as_if_recomputed(plain, self.blocks)
        return recomputing(plain, every, recomputed)

    def _holes(self, micro_batch: int, recomputed: int, setting: Setting) -> float:
        """What lies unused between a step's tensors, as a share of them."""
        if not self.on_cpu:
            return GPU_HOLES
        if 0 < recomputed < self.blocks:
            none, every = (self._holes(micro_batch, each, setting) for each in (0, self.blocks))
            return none + (every - none) * recomputed / self.blocks
        step = self.step(recomputed, setting)
        if not step.changes:
            return CPU_HOLES
        heap = _heap_of(step, micro_batch, _pinned(step, recomputed, setting))
        return max(0.0, heap / step.peak(micro_batch, accumulates=False) - 1)

    def parts(self, micro_batch: int, recomputed: int) -> dict[str, int]:
        """Bytes by part, of the largest phase, as expected."""
        return self._parts(micro_batch, recomputed, self.expected)

    def total(self, micro_batch: int, recomputed: int) -> int:
        """Bytes in all, at most."""
        return sum(self._parts(micro_batch, recomputed, self.setting).values())

    def _parts(self, micro_batch: int, recomputed: int, setting: Setting) -> dict[str, int]:
        step = self.step(recomputed, setting)
        peak, gradients = step.peak(micro_batch, accumulates=micro_batch < self.share), step.gradients
        kept = max(0, min(step.kept_by(micro_batch), peak - gradients))
        held = {"gradients": gradients, "activations": kept, "working set": max(0, peak - gradients - kept)}
        held["allocator"] = int(peak * self._holes(micro_batch, recomputed, setting))
        others = {"evaluation": self._evaluation(micro_batch), "heads": self.heads}
        largest = max(others, key=lambda part: others[part])
        more = others[largest] - sum(held.values())
        return {part: size for part, size in {**self.fixed, **held, largest: max(0, more)}.items() if size}

    def _evaluation(self, micro_batch: int) -> int:
        wanted = self.setting.recipe.train.eval_batch
        planned = eval_batch(micro_batch, self.setting.device) if isinstance(wanted, str) else wanted
        return max((each.peak(planned, accumulates=False) for each in self.evaluations), default=0)


def eval_batch(micro_batch: int, device: str) -> int:
    """Images in a forward pass without gradients: on a CPU few are as quick as many, but one at a time is not."""
    return max(micro_batch, LEAST_EVAL_BATCH) if device == "cpu" else min(4 * micro_batch, 128)


@lru_cache(maxsize=256)
def _heap_of(step: StepBytes, batch: int, pinned: float) -> int:
    return heap_bytes(step.changes, batch, pinned)


def _pinned(step: StepBytes, recomputed: int, setting: Setting) -> float:
    """The share of a heap's cut-off ends that stay taken: by objects of the autograd graph, of which functions written
    in Python have most, and a step that keeps little, or makes activations again, few."""
    if recomputed:
        return PINNED["recomputed"]
    if 2 * step.kept_by(64) < step.peak(64, accumulates=False) - step.gradients:
        return PINNED["little kept"]
    if not step.functions:
        return PINNED["torch"]
    return PINNED["python" if activations_of(setting.recipe, setting.device).value == KEPT else "made again"]


def forecast(
    recipe: Recipe,
    machine: Machine,
    facts: BackboneFacts,
    trainable: int,
    precision: str,
    share: int,
    patches: float,
    count: Count,
    size: DataSize,
) -> Forecast:
    """What this recipe takes on this machine, in bytes by part. `share`: images of this process an update; `patches`:
    the planned share of an image's patches."""
    on_cpu, whole = machine.device == "cpu", recipe.adapter.whole
    auto = recipe.train.patches_kept == "auto"
    expected = Setting(recipe, machine.device, precision, patches=patches)
    setting = replace(expected, patches=1.0) if auto else expected
    frozen = 0 if whole else recipe.quantization.weight_bytes(facts, BYTES[precision])
    # On a CPU weights in the type of the file stay a mapping of it: pages that the system may drop, not the process's.
    mapped = on_cpu and precision == "fp32" and recipe.quantization.kind == "none"
    # Of the best rung before, and under a budget of the best weights of this one; a single rung's are on the disk.
    copies = (recipe.ladder == "auto" or len(recipe.ladder) > 1) + bool(recipe.budget.time)
    by_clock = bool(recipe.budget.time) or recipe.ladder == "auto" or "cached" in recipe.ladder
    averaged = by_clock and averages_weights(recipe, facts)
    fixed = {
        "process": (machine.process_bytes or PROCESS_BYTES) + STILL_TO_COME if on_cpu else GPU_WORKSPACE,
        "rows": ROW_BYTES * size.rows if on_cpu else 0,
        "frozen weights": 0 if mapped else frozen,
        "trained weights": 4 * trainable,
        "optimizer": OPTIMIZERS[recipe.train.optimizer].state_bytes * trainable,
        "averaged weights": 4 * trainable if averaged else 0,
        "copies of the best": copies * 4 * trainable if on_cpu else 0,
        # Verified beside the trained one; transformers reads it in threads, whose memory is not the step's.
        "reloaded model": frozen if on_cpu and not mapped and not whole else 0,
    }
    return Forecast(
        fixed={part: size for part, size in fixed.items() if size},
        evaluations=_evaluations(setting, count),
        setting=setting,
        expected=expected,
        count=count,
        blocks=max(1, len(facts.blocks)) if facts.supports_checkpointing else 0,
        share=share,
        heads=_heads(facts, size.outputs) if on_cpu and (recipe.ladder == "auto" or "probe" in recipe.ladder) else 0,
        fallback=_untraced(recipe, facts, trainable, precision),
        on_cpu=on_cpu,
        note="" if count(setting) else "coarse: this backbone's step could not be counted",
    )


def _heads(facts: BackboneFacts, outputs: int) -> int:
    """What is held while the probe's head is fitted: pieces of rows × outputs and matrices of features × outputs."""
    piece = min(HEAD_ROWS * outputs, HEAD_NUMBERS)
    return 8 * (_HEAD_PIECES * piece + _HEAD_MATRICES * facts.head_in_features * outputs)


def _evaluations(setting: Setting, count: Count) -> tuple[StepBytes, ...]:
    """Of the test with float32 weights, where it is scored so, which takes more than validation in the precision of
    training; but that holds copies of its weights where all of them train."""
    exact, whole = setting.recipe.budget.time is None, setting.recipe.adapter.whole
    # Training's own comes last: the model that was counted last is kept, and the step is counted next.
    precisions = dict.fromkeys(("fp32",) * exact + (setting.precision,) * (whole or not exact))
    passes = (replace(setting, precision=each, backward=False, patches=1.0) for each in precisions)
    return tuple(found for each in passes if (found := count(each)) is not None)


def _untraced(recipe: Recipe, facts: BackboneFacts, trainable: int, precision: str) -> StepBytes:
    image = int(UNTRACED_BYTES_PER_PARAMETER * facts.parameters * recipe.adapter.activation_share)
    image = image * BYTES[precision] // 4
    blocks = max(1, len(facts.blocks))
    saved = ((0, int(image / blocks * (1 - 1 / 16))),) * blocks
    return StepBytes(((0, image, 0), (0, 0, 4 * trainable)), (0, image), saved, 4 * trainable)


def _as_if_recomputed(plain: StepBytes, blocks: int) -> StepBytes:
    """One map a block, and one whole block at a time (1 map · depth, and 16 once): a rule of thumb."""
    fixed, image = plain.kept
    image = math.ceil(image * (1 / max(1, blocks) + 1 / 16))
    return StepBytes(((fixed, image, plain.gradients),), (fixed, image), plain.saved, plain.gradients)
