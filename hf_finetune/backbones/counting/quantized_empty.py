"""Quantized layers without weights: bitsandbytes' own, on the meta device, so that a step can be counted beforehand.

The one place that knows how the layers of today look before loading.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.autograd._functions import MatMul8bitFp
from bitsandbytes.nn.modules import Int8Params, Params4bit
from torch import nn

from hf_finetune.arithmetic.integer import chosen
from hf_finetune.backbones.quantized import Linear4bit, Linear8bitLt
from hf_finetune.types import Compute

_THRESHOLD, _BLOCK = 6.0, 64  # transformers' and bitsandbytes' defaults


def quantize_empty(
    model: nn.Module, kind: str, linears: Collection[str], device: str, dtype: torch.dtype, compute: Compute = "auto"
) -> None:
    """Put quantized layers of `kind` (int8, nf4) in the place of the model's `linears`, on the meta device.

    `device` is the one that will train: bitsandbytes computes int8 in another way on CPUs. `dtype`: of the weights that
    stay, in which 4-bit layers compute; `compute`: of int8 layers.
    """
    make: Callable[[nn.Linear], nn.Module] = (
        (lambda old: _int8(old, device, compute)) if kind == "int8" else (lambda old: _nf4(old, dtype))
    )
    for name in linears:
        parent, _, own = name.rpartition(".")
        old = model.get_submodule(name)
        if isinstance(old, nn.Linear):
            setattr(model.get_submodule(parent), own, make(old))
    setattr(model, f"is_loaded_in_{8 if kind == 'int8' else 4}bit", True)
    model.requires_grad_(False)


class _Int8OnACpu(Linear8bitLt):
    """On a CPU bitsandbytes trains int8 layers in floating point; it asks the input's device, which is meta here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.compute != "llm_int8":
            return super().forward(x)
        self.state.is_training = True
        weight: Any = self.weight  # Int8Params
        if weight.CB is not None:
            self.init_8bit_state()
        return MatMul8bitFp.apply(x, self.weight, None, self.bias, self.state)  # pyright: ignore[reportReturnType]


def _int8(old: nn.Linear, device: str, compute: Compute) -> nn.Module:
    kind = _Int8OnACpu if device == "cpu" else Linear8bitLt
    with torch.device("meta"):
        layer = kind(old.in_features, old.out_features, old.bias is not None, False, threshold=_THRESHOLD)
        codes = torch.empty(old.out_features, old.in_features, dtype=torch.int8)
        scales = torch.empty(old.out_features, dtype=torch.float32)
    kind_of_weight: Any = Int8Params
    weight = kind_of_weight(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales)
    layer.weight = weight
    layer.bias = old.bias
    layer.compute = chosen(compute, old.in_features, old.out_features, device)
    return layer


def _nf4(old: nn.Linear, dtype: torch.dtype) -> nn.Module:
    count = old.weight.numel()
    with torch.device("meta"):
        layer = Linear4bit(old.in_features, old.out_features, old.bias is not None, dtype, quant_type="nf4")
        state = functional.QuantState(
            absmax=torch.empty(-(-count // _BLOCK)),
            shape=old.weight.shape,
            code=torch.empty(16),
            blocksize=_BLOCK,
            quant_type="nf4",
            dtype=dtype,
        )
        codes = torch.empty((count + 1) // 2, 1, dtype=torch.uint8)
    kind_of_weight: Any = Params4bit
    layer.weight = kind_of_weight(
        codes, requires_grad=False, quant_state=state, blocksize=_BLOCK, compress_statistics=False, quant_type="nf4",
        bnb_quantized=True,
    )  # fmt: skip
    layer.bias = old.bias
    return layer
