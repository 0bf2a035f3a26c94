"""What a backbone quantized by bitsandbytes needs after loading: checked, trainable, and fed as its layers can bear."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import modules as bitsandbytes
from torch import nn

from hf_finetune.arithmetic import integer
from hf_finetune.arithmetic.integer import IntegerWeight
from hf_finetune.arithmetic.products import DequantizedProduct, IntegerProduct, Product, multiply
from hf_finetune.errors import ModelError
from hf_finetune.machine.detect import cpu_has_bf16
from hf_finetune.types import Compute


class Linear8bitLt(bitsandbytes.Linear8bitLt):
    """bitsandbytes' own layer and weights, multiplied as `compute` says, for input of any number of dimensions.

    llm_int8 is their arithmetic. In eval mode version 0.50.2 flattens [B, N, C] alone. [B, H, W, C] (ConvNeXt, Swin,
    MaxViT) raises, or gives an output without its dimensions; and a column with outliers would be looked for along H.
    """

    compute: Compute = "llm_int8"  # stock layers become these after they are made
    _packed: IntegerWeight | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out], each row for itself unless by llm_int8."""
        product = self.frozen_product()
        if product is not None:
            return multiply(x, product)
        if x.ndim <= 3:
            return super().forward(x)
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

    def frozen_product(self) -> Product | None:
        """How it is multiplied; None by bitsandbytes itself."""
        weight: Any = self.weight  # Int8Params
        if self.compute == "llm_int8" or weight.dtype != torch.int8:
            return None
        if weight.CB is not None:
            self.init_8bit_state()
        if self.compute == "dequantized":
            return DequantizedProduct(self, self._dequantized)
        state: Any = self.state
        if self._packed is None or self._packed.codes is not state.CB:  # moved to another device
            self._packed = IntegerWeight(state.CB, state.SCB / 127)
        return IntegerProduct(self, self._packed)

    def _dequantized(self, dtype: torch.dtype) -> torch.Tensor:
        state: Any = self.state
        return state.CB.to(dtype).mul_((state.SCB / 127).to(dtype)[:, None])

    def init_8bit_state(self) -> None:
        """As theirs, with the scales that are known where peft's DoRA has made the weight anew without them."""
        weight: Any = self.weight  # Int8Params
        if weight.SCB is None:
            weight.SCB = self.state.SCB
        super().init_8bit_state()


class Linear4bit(bitsandbytes.Linear4bit):
    """bitsandbytes' own layer and weights; dequantized for each product, as theirs are for more than a few rows, but in
    one step: on a CPU theirs takes twice as long (ViT-Tiny, 16 images)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out], multiplied in the type that the config names, else in that of the input.

        The config names bfloat16 for every CPU, so that a result loads everywhere; one that has no such products would
        take several times as long for it.
        """
        here = x.device.type != "cpu" or cpu_has_bf16()
        compute = (self.compute_dtype or x.dtype) if here else x.dtype
        return multiply(x.to(compute), self.frozen_product()).to(x.dtype)

    def frozen_product(self) -> Product:
        """How it is multiplied."""
        return DequantizedProduct(self, self._dequantized)

    def _dequantized(self, dtype: torch.dtype) -> torch.Tensor:
        weight: Any = self.weight  # Params4bit
        return dequantize_4bit(weight.data, weight.quant_state).to(dtype)


def compute_in(model: nn.Module, compute: Compute) -> dict[str, int]:
    """Have the int8 layers of `model` multiply so; how many layers do which.

    auto: by integers where that is the faster way here, else by dequantized weights, which is exact.
    """
    counts: dict[str, int] = {}
    for module in model.modules():
        if isinstance(module, Linear8bitLt):
            kind = integer.chosen(compute, module.in_features, module.out_features, module.weight.device.type)
            module.compute = kind
            counts[kind] = counts.get(kind, 0) + 1
    return counts


@contextmanager
def stock_arithmetic(model: nn.Module) -> Iterator[None]:
    """Inside, int8 layers multiply as they do for people who load the model with stock libraries."""
    before: dict[Linear8bitLt, Compute] = {
        module: module.compute for module in model.modules() if isinstance(module, Linear8bitLt)
    }
    for module in before:
        module.compute = "llm_int8"
    try:
        yield
    finally:
        for module, compute in before.items():
            module.compute = compute


def settle_quantized(name: str, model: nn.Module, head: tuple[str, ...]) -> None:
    """Make `model`, fresh from `from_pretrained`, fit to train; `name` is the base's.

    Raises ModelError where its head was quantized, or nothing was.
    """
    _check_converted(name, model, head)
    for module in model.modules():
        if type(module) is bitsandbytes.Linear8bitLt:
            module.__class__ = Linear8bitLt
        if type(module) is bitsandbytes.Linear4bit:
            module.__class__ = Linear4bit
            # In eval mode on CPUs with AVX512-BF16, bitsandbytes 0.50.2 repacks the weights for a faster kernel, for
            # good: after the first evaluation, training would get no gradient through any quantized layer, and no
            # error either.
            module.support_avx512bf16_for_cpu = False
    # bitsandbytes 0.50.2 says so at every layer of every step.
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_not_the_cast_notice)


def _check_converted(name: str, model: nn.Module, head: tuple[str, ...]) -> None:
    kinds = (bitsandbytes.Linear4bit, bitsandbytes.Linear8bitLt)
    converted = [path for path, module in model.named_modules() if isinstance(module, kinds)]
    wrong = [path for path in converted if any(path == each or path.startswith(f"{each}.") for each in head)]
    if wrong or not converted:
        what = f"its head, {', '.join(wrong)}" if wrong else "nothing"
        raise ModelError(f"model.name: quantizing {name!r} converted {what}", "set quantization.kind=none")


def _is_not_the_cast_notice(record: logging.LogRecord) -> bool:
    return "inputs will be cast from" not in record.msg
