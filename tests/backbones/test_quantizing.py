"""Quantizing in pieces gives bitsandbytes' own numbers, with little memory beside them."""

from __future__ import annotations

import bitsandbytes
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_finetune.backbones.quantizing import QuantizedInPieces


class Largest(TorchDispatchMode):
    """Notes the most weights that either operator was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "bitsandbytes" in str(func):
            self.weights = max(self.weights, args[0].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_in_pieces_are_those_of_the_whole_to_the_bit(kind: str, double: bool) -> None:
    weight = torch.randn(1100, 1024, generator=torch.Generator().manual_seed(0)).bfloat16()

    def quantized() -> bitsandbytes.nn.Params4bit:
        given = {"quant_type": kind, "compress_statistics": double}
        return bitsandbytes.nn.Params4bit(weight.clone(), requires_grad=False, **given).to("cpu")

    whole = quantized()
    with Largest() as largest, QuantizedInPieces():
        pieces = quantized()

    assert torch.equal(whole.data, pieces.data)
    assert torch.equal(whole.quant_state.absmax, pieces.quant_state.absmax)
    assert largest.weights < weight.numel()


def test_eight_bits_in_pieces_are_those_of_the_whole_to_the_bit() -> None:
    weight = torch.randn(1100, 1024, generator=torch.Generator().manual_seed(0)).bfloat16()
    whole = bitsandbytes.nn.Int8Params(weight.clone(), requires_grad=False).to("cpu")
    with Largest() as largest, QuantizedInPieces():
        pieces = bitsandbytes.nn.Int8Params(weight.clone(), requires_grad=False).to("cpu")

    assert torch.equal(whole.CB, pieces.CB)
    assert torch.equal(whole.SCB, pieces.SCB)
    assert largest.weights < weight.numel()


def test_outliers_are_looked_for_over_all_rows() -> None:
    rows = torch.randn(1100, 1024, generator=torch.Generator().manual_seed(0)).half()
    rows[3, 5] = 50.0
    whole = torch.ops.bitsandbytes.int8_vectorwise_quant.default(rows.clone(), 6.0)
    with QuantizedInPieces():
        pieces = torch.ops.bitsandbytes.int8_vectorwise_quant.default(rows.clone(), 6.0)
    assert all(torch.equal(one, other) for one, other in zip(whole, pieces, strict=True))
