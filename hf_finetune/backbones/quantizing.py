"""Quantizing on the way in: bitsandbytes' own numbers, made a piece of a layer at a time, so that little else is held.

On a CPU bitsandbytes takes five (int8) to thirteen (nf4) times a layer's final bytes while it converts it, and the
allocator keeps the holes that this leaves between the weights that stay: the peak was up to 9 times the final weights
(docs/experiments.md, "Memory while a model loads").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hf_finetune.machine.process import give_back_freed_memory

# Weights at a time. Smaller pieces leave less behind and take longer.
_PIECE = 2**19


class QuantizedInPieces(TorchDispatchMode):
    """While it is entered, bitsandbytes' two quantizing operators take large weights on a CPU in pieces.

    A scale stands for one row (int8) or one block of 64 weights (nf4), and no piece cuts through one: the result is the
    same to the bit.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operator on pieces where it is one of the two, and else the operator."""
        given = dict(kwargs or {})
        if func is torch.ops.bitsandbytes.quantize_4bit.default and _is_large(args[0]):
            weight, blocksize, *more = args
            pieces = weight.reshape(-1).split(math.ceil(_PIECE / blocksize) * blocksize)
            return _joined([func(piece, blocksize, *more, **given) for piece in pieces])
        # A threshold would look for outliers down the columns, over all rows. Weights are quantized without one.
        if func is torch.ops.bitsandbytes.int8_vectorwise_quant.default and _is_large(args[0]) and not any(args[1:]):
            pieces = args[0].split(max(1, _PIECE // args[0].shape[-1]))
            return *_joined([func(piece, *args[1:], **given)[:2] for piece in pieces]), None
        return func(*args, **given)


def _is_large(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.numel() > _PIECE


def _joined(pieces: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    joined = tuple(torch.cat(each) for each in zip(*pieces, strict=True))
    give_back_freed_memory()
    return joined
