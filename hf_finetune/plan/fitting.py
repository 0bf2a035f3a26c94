"""Micro-batch and recomputed blocks: as many images and as few recomputed blocks as the memory allows. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left

from hf_finetune.errors import MachineError
from hf_finetune.plan.forecast import Forecast
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Decision, Machine
from hf_finetune.units import format_bytes

# Share of the free memory that a plan may fill: the forecast is within a tenth.
MEMORY_SHARE = 0.9
# Larger micro-batches gain nothing on a CPU and cost memory.
LARGEST_MICRO_BATCH = {"cpu": 32, "mps": 64}
# Without recomputation at least so many images must fit, else recomputing some blocks is the faster way (assumption).
FEW_IMAGES = 4


class NoFitError(MachineError):
    """The recipe fits this machine at no micro-batch and no number of recomputed blocks that it allows."""


def room_of(machine: Machine) -> int:
    """Bytes that a plan may fill."""
    return int(machine.device_memory_bytes * MEMORY_SHARE)


def budget_for(needed: int) -> int:
    """The least `budget.memory` in which so many bytes have room."""
    return math.ceil(needed / MEMORY_SHARE)


def limiting_budget(recipe: Recipe, machine: Machine) -> int | None:
    """`budget.memory`, where it and not what the machine has free is the limit."""
    budget = recipe.budget.memory
    return budget if budget == machine.device_memory_bytes else None


def _usable(recipe: Recipe, machine: Machine, room: int) -> str:
    share = "" if limiting_budget(recipe, machine) is None else f", {MEMORY_SHARE:.0%} of budget.memory"
    return f"{format_bytes(room)} of {machine.device} memory may be used{share}"


def fit(
    recipe: Recipe, machine: Machine, facts: BackboneFacts, weigh: Forecast, share: int
) -> tuple[Decision[int], Decision[int]]:
    """How many blocks are recomputed, and the micro-batch: the process's share in even pieces, as few as fit.

    Raises NoFitError where not even the smallest piece with the most recomputation does, or a micro-batch that the
    recipe asks for breaks the memory that it allows.
    """
    room, least = room_of(machine), _least_piece(recipe, facts, share)
    fewest, most = _allowed(recipe, facts, weigh)
    wanted = recipe.train.micro_batch
    if wanted != "auto":
        size = min(wanted, share)
        count = _fewest_blocks(weigh, size, fewest, most, room)
        needed = weigh.total(size, count)
        if needed > room and recipe.budget.memory is not None:
            raise NoFitError(
                f"train.micro_batch {size} needs about {format_bytes(needed)}, and {_usable(recipe, machine, room)}.",
                "Leave train.micro_batch out, or raise budget.memory.",
            )
        over = f"; {format_bytes(needed)} forecast, more than the {format_bytes(room)} usable" if needed > room else ""
        asked = "as the recipe says" if size == wanted else f"all of an update; the recipe allows {wanted:,}"
        size_decision = Decision(size, f"{asked}{over}")
        return _checkpointing(recipe, weigh, count, "for the micro-batch asked for"), size_decision
    cap = min(share, LARGEST_MICRO_BATCH.get(machine.device, share))
    target = max(least, min(FEW_IMAGES, share))
    count = _fewest_blocks(weigh, target, fewest, most, room)
    size = _most_images(weigh, count, cap, least, room)
    if not size:
        images = "one image at a time needs" if least == 1 else f"{least} images at a time, for its batch norms, need"
        raise NoFitError(
            f"Even {images} about {format_bytes(weigh.total(least, most))}, and {_usable(recipe, machine, room)}.",
            "Raise budget.memory, take a smaller backbone, adapter.kind head_only, or quantization.kind int8 or nf4.",
        )
    size = _even_piece(share, size)
    reason = f"{format_bytes(weigh.total(size, count))} forecast of {format_bytes(room)} usable"
    why = f"the fewest with which {min(target, size)} images fit"
    return _checkpointing(recipe, weigh, count, why), Decision(size, reason)


def smallest(recipe: Recipe, facts: BackboneFacts, weigh: Forecast, share: int) -> tuple[int, int]:
    """The least micro-batch and the most recomputed blocks that the recipe allows."""
    least = _least_piece(recipe, facts, share)
    wanted = recipe.train.micro_batch
    return (least if wanted == "auto" else min(wanted, share)), _allowed(recipe, facts, weigh)[1]


def _allowed(recipe: Recipe, facts: BackboneFacts, weigh: Forecast) -> tuple[int, int]:
    """The fewest and the most blocks that the recipe lets be recomputed. Raises MachineError."""
    wanted = recipe.train.checkpointing
    if wanted == "auto":
        return 0, weigh.blocks
    if wanted is False:
        return 0, 0
    if not weigh.blocks:
        raise MachineError(f"train.checkpointing: {facts.architecture} cannot recompute its blocks.", "Set it to auto.")
    if wanted is True:
        return weigh.blocks, weigh.blocks
    if wanted > weigh.blocks:
        blocks = f"{weigh.blocks} block{'s' * (weigh.blocks > 1)}"
        raise MachineError(
            f"train.checkpointing is {wanted}, and {facts.architecture} has {blocks} to recompute.",
            f"Set it to {weigh.blocks} at most, or to true for all.",
        )
    return wanted, wanted


def _checkpointing(recipe: Recipe, weigh: Forecast, count: int, why: str) -> Decision[int]:
    if recipe.train.checkpointing != "auto":
        return Decision(count, "as the recipe says")
    return Decision(count, f"of {weigh.blocks} blocks: {why}" if count else "not needed")


def _fewest_blocks(weigh: Forecast, size: int, fewest: int, most: int, room: int) -> int:
    """The smallest number of recomputed blocks with which `size` images fit; `most` where none does."""
    if fewest == most or weigh.total(size, fewest) <= room:  # without counting a step that recomputes
        return fewest
    return fewest + bisect_left(range(fewest, most), True, key=lambda count: weigh.total(size, count) <= room)


def _most_images(weigh: Forecast, count: int, cap: int, least: int, room: int) -> int:
    """The largest micro-batch from `least` to `cap` that fits; 0 where none does."""
    fitting = bisect_left(range(least, cap + 1), True, key=lambda size: weigh.total(size, count) > room)
    return least - 1 + fitting if fitting else 0


def _least_piece(recipe: Recipe, facts: BackboneFacts, share: int) -> int:
    """Images in the smallest piece of an update: two where batch norms train, whose statistics of one say nothing.

    Raises MachineError where the recipe wants fewer.
    """
    if not (recipe.adapter.whole and facts.batch_norms):
        return 1
    wanted = recipe.train.micro_batch
    if share < 2 or wanted == 1:
        key = "train.micro_batch is 1" if wanted == 1 else "an update has one image a process"
        raise MachineError(
            f"adapter.kind full trains the {facts.batch_norms} batch norms of {facts.architecture}, which take their "
            f"statistics from the images of a piece, but {key}.",
            "Leave train.micro_batch out and let an update have two images a process at least, or take adapter.kind "
            "lora or head_only, which leave them as they are.",
        )
    return 2


def _even_piece(share: int, most: int) -> int:
    """The size that cuts `share` images into the fewest pieces of `most` at most; a divisor of it where one is above
    half of `most`: pieces that are all alike can run as one CUDA graph."""
    alike = next((size for size in range(most, 0, -1) if share % size == 0), 1)
    return alike if 2 * alike > most else math.ceil(share / math.ceil(share / most))
