"""How long products of a backbone's layers take here with each kind of weights: measured, on random numbers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hf_finetune.types import Compute

_TOKENS = 788  # of four images of a ViT at 224 px
_CALLS = 3
_MOST_SHAPES = 6  # the layers with most of the arithmetic


def times_as_long(kind: str, facts: BackboneFacts, precision: str, compute: Compute = "auto") -> float | None:
    """Of the backbone's Linear layers in int8 or nf4 against floating point, on this CPU; None without such layers.

    Under a second for a ViT-B.
    """
    import torch

    shapes = Counter(facts.linears.values()).most_common()
    shapes = sorted(shapes, key=lambda each: -each[1] * each[0][0] * each[0][1])[:_MOST_SHAPES]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    plain = quantized = 0.0
    for (inputs, outputs), count in shapes:
        weight, x = torch.randn(outputs, inputs), torch.randn(_TOKENS, inputs, dtype=dtype)
        in_floats = weight.to(dtype)
        product = _int8(weight, compute) if kind == "int8" else _nf4(weight, dtype)
        plain += count * _seconds(lambda x=x, weight=in_floats: torch.nn.functional.linear(x, weight))
        quantized += count * _seconds(lambda x=x, product=product: product(x))
    return quantized / plain if plain else None


def _int8(weight: Tensor, compute: Compute) -> Callable[[Tensor], Tensor]:
    import torch

    from hf_finetune.arithmetic.integer import IntegerWeight, chosen

    scales = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scales).round().to(torch.int8)
    if chosen(compute, weight.shape[1], weight.shape[0], "cpu") == "integer":
        integer = IntegerWeight(codes, scales)
        return lambda x: integer.forward(x, None)[0]
    return lambda x: torch.nn.functional.linear(x, codes.to(x.dtype).mul_(scales.to(x.dtype)))


def _nf4(weight: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    import torch
    from bitsandbytes import functional

    state: Any
    codes, state = functional.quantize_4bit(weight.to(dtype), quant_type="nf4")
    return lambda x: torch.nn.functional.linear(x, functional.dequantize_4bit(codes, state).to(x.dtype))


def _seconds(function: Callable[[], Tensor]) -> float:
    """The quickest of some calls: what else the machine does only adds."""
    function()
    found = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return min(found)
