"""PEFT's LoRA layers with a forward of our own while training: the same numbers, fewer copies and kernels.

PEFT computes x Wᵀ + s · (x Aᵀ) Bᵀ from separate modules and keeps a copy of x for each; here one autograd function
does, keeping x once, and casts the float32 factors to the input's type itself, so that no autocast is needed. Only
plain layers are changed (torch's own Linear below, one adapter, no dropout, no DoRA); weights, names and files stay
PEFT's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

    from hf_finetune.types import Plan


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ; W and b frozen. x [..., in], W [out, in], A float32 [r, in], B float32 [out, r]."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low_a, low_b = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = flat @ low_a.T
        out = functional.linear(flat, weight, bias).addmm_(inner, low_b.T)
        ctx.save_for_backward(flat, weight, low_a, low_b, inner)
        ctx.scale, ctx.shape = scale, x.shape  # pyright: ignore[reportAttributeAccessIssue]
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, weight, low_a, low_b, inner = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        to_inner = grad @ low_b
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (grad @ weight).addmm_(to_inner, low_a).view(ctx.shape)
        to_a = (to_inner.T @ flat).float()
        to_b = (grad.T @ inner).float() * ctx.scale
        return to_x, None, None, to_a, to_b, None


def _plain(module: nn.Module) -> bool:
    from peft.tuners.lora.layer import Linear

    return (
        type(module) is Linear
        and type(module.base_layer) is nn.Linear
        and module.active_adapters == ["default"]
        and not module.merged
        and not module.lora_variant
        and not module.lora_bias.get("default", False)
        and isinstance(module.lora_dropout["default"], nn.Identity)
    )


def covers(model: nn.Module) -> bool:
    """Whether every LoRA layer of the model is plain, so that it can train without autocast."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return bool(layers) and all(_plain(layer) for layer in layers)


@contextmanager
def low_memory_lora(model: nn.Module) -> Iterator[None]:
    """Inside, the plain LoRA layers of `model` run on the function above."""
    changed: list[Any] = [module for module in model.modules() if _plain(module)]
    for layer in changed:
        layer.forward = _forward_of(layer)
    try:
        yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)


def _forward_of(layer: Any) -> Any:
    base, a, b = layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]
    scale = layer.scaling["default"]

    def forward(x: Tensor) -> Tensor:
        return _LoraLinear.apply(x, base.weight, base.bias, a.weight, b.weight, scale)  # pyright: ignore[reportReturnType]

    return forward


@contextmanager
def training_forms(model: nn.Module, plan: Plan) -> Iterator[bool]:
    """LoRA layers in their training form where all of them have one; yields whether autocast is still needed.

    Autocast's copies cost a fifth of a step on CPUs (docs/experiments.md, "LoRA steps on the CPU"), and a GPU waits
    until each is asked for.
    """
    if plan.device.value in ("cpu", "cuda") and plan.precision.value == "bf16" and covers(model):
        with low_memory_lora(model):
            yield False
    else:
        yield True
