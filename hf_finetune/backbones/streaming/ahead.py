"""Frozen weights that stay in the checkpoint's files, on a CPU: the next block's pages are asked for ahead of use."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hf_finetune.backbones.streaming.mapped import MappedWeights
from hf_finetune.backbones.streaming.order import watch_blocks
from hf_finetune.errors import ModelError
from hf_finetune.units import format_bytes

logger = logging.getLogger(__name__)
# A converter of transformers that joins or splits tensors makes new ones of them, in memory.
_LEAST_MAPPED = 0.8


@dataclass(frozen=True)
class ReadAhead:
    """Has the pages of the block after the one in use read; `weights`: those of each block that lie in files."""

    mapped: MappedWeights
    weights: Sequence[Sequence[Tensor]]

    def __call__(self, _number: int, following: int | None) -> None:
        """For `watch_blocks`."""
        if following is not None:
            self.mapped.read_ahead(self.weights[following])


def read_blocks_ahead(name: str, model: nn.Module, blocks: Sequence[str], mapped: MappedWeights) -> None:
    """Have each block of `model`, whose weights are `mapped`'s, ask for the next one's; `name` is the base's.

    Raises ModelError where there are no blocks, or their weights are not in the files.
    """
    if not blocks:
        raise no_blocks(name)
    modules = [model.get_submodule(block) for block in blocks]
    weights = [list(module.parameters()) for module in modules]
    every = [weight for block in weights for weight in block]
    total, there = (sum(weight.nbytes for weight in each) for each in (every, filter(mapped.holds, every)))
    if there < _LEAST_MAPPED * total:
        raise ModelError(
            f"model.stream: {format_bytes(total - there)} of the {format_bytes(total)} in the blocks of {name!r} are "
            "made from several tensors of its checkpoint, or one of several, and cannot stay in its files",
            "set model.stream=off, or give a folder that this version of transformers has saved",
        )
    logger.debug("%s of frozen weights stay in files and are read as they are used.", format_bytes(there))
    watch_blocks(modules, ReadAhead(mapped, [[each for each in block if mapped.holds(each)] for block in weights]))


def no_blocks(name: str) -> ModelError:
    """The refusal of a network that repeats nothing."""
    return ModelError(
        f"model.stream: repeated blocks are expected, which could be brought in one by one; {name!r} has none",
        "set model.stream=off",
    )
