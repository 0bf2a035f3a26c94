"""What a backbone quantized by bitsandbytes needs after loading: checked, trainable, and fed as its layers can bear."""

from __future__ import annotations

import logging
from typing import Any

import torch
from bitsandbytes.nn import modules as bitsandbytes
from torch import nn

from hf_finetune.errors import ModelError


class Linear8bitLt(bitsandbytes.Linear8bitLt):
    """bitsandbytes' own layer for input of any number of dimensions, [..., in] to [..., out].

    In eval mode version 0.50.2 flattens [B, N, C] alone. [B, H, W, C] (ConvNeXt, Swin, MaxViT) raises, or gives an
    output without its dimensions; and a column with outliers would be looked for along H.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As for the same rows in one batch."""
        if x.ndim <= 3:
            return super().forward(x)
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

    def init_8bit_state(self) -> None:
        """As theirs, with the scales that are known where peft's DoRA has made the weight anew without them."""
        weight: Any = self.weight  # Int8Params
        if weight.SCB is None:
            weight.SCB = self.state.SCB
        super().init_8bit_state()


def settle_quantized(name: str, model: nn.Module, head: tuple[str, ...]) -> None:
    """Make `model`, fresh from `from_pretrained`, fit to train; `name` is the base's.

    Raises ModelError where its head was quantized, or nothing was.
    """
    _check_converted(name, model, head)
    for module in model.modules():
        if type(module) is bitsandbytes.Linear8bitLt:
            module.__class__ = Linear8bitLt
        if isinstance(module, bitsandbytes.Linear4bit):
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
