"""PEFT's LoRA layers with a forward of our own while training: the same numbers, fewer copies and kernels.

PEFT computes x Wᵀ + s · (x Aᵀ) Bᵀ from separate modules and keeps a copy of x for each; here one autograd function
does, and casts the float32 factors to the input's type itself, so that no autocast is needed. Of x it keeps as little
as it can: what x is made of where that is kept anyway (arithmetic/sources.py), its int8 codes where it was multiplied
as those, else x itself. Covered are torch's own Linear, int8 and nf4 below one adapter without dropout and DoRA;
weights, names and files stay PEFT's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_finetune.arithmetic.attention import lean_attention
from hf_finetune.arithmetic.integer import Rows
from hf_finetune.arithmetic.products import IntegerProduct, Product, product_of
from hf_finetune.arithmetic.sources import Source, remembered_sources, source_of

if TYPE_CHECKING:
    from hf_finetune.types import Plan


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ; W and b frozen, in `product`. x [M, in], A float32 [r, in], B float32 [out, r].

    `source`: what makes x [..., in] again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, scale: float, product: Product, source: Source | None
    ) -> Tensor:
        low_a, low_b = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = x @ low_a.T
        out, rows = product.forward(x)
        ctx.rows = source is None and rows is not None
        kept = source.kept if source is not None else rows if rows is not None else (x,)
        ctx.save_for_backward(low_a, low_b, inner, *product.weights, *kept)
        ctx.kept = len(kept)
        ctx.scale, ctx.product, ctx.make = scale, product, None if source is None else source.make
        return out.addmm_(inner, low_b.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        low_a, low_b, inner, *rest = ctx.saved_tensors
        count = len(rest) - ctx.kept
        weights, kept = rest[:count], rest[count:]
        to_inner = grad @ low_b
        to_x = ctx.product.backward(grad, *weights).addmm_(to_inner, low_a) if ctx.needs_input_grad[0] else None
        if ctx.rows:
            rows = Rows(*kept)
            to_a = (to_inner * rows.scales).T @ rows.values()
        else:
            (x,) = kept if ctx.make is None else (ctx.make(*kept),)
            to_a = to_inner.T @ x.reshape(-1, low_a.shape[1])
        to_b = grad.T @ inner
        return to_x, to_a.float(), to_b.float() * ctx.scale, None, None, None


def _plain(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    if not isinstance(module, LoraLayer) or type(module).__name__ not in ("Linear", "Linear8bitLt", "Linear4bit"):
        return False
    return (
        product_of(module.base_layer) is not None
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


@contextmanager
def answering_lora(model: nn.Module) -> Iterator[None]:
    """`low_memory_lora` for a model that answers and does not train, the same numbers: of layers that no rung trained,
    whose B is zero, only the product below them is computed."""
    with low_memory_lora(model):
        changed: list[Any] = [module for module in model.modules() if _plain(module)]
        for layer in changed:
            if not layer.lora_B["default"].weight.any():
                layer.forward = _bare_forward_of(product_of(layer.base_layer))
        yield


def _forward_of(layer: Any) -> Any:
    product, a, b = product_of(layer.base_layer), layer.lora_A["default"], layer.lora_B["default"]
    scale = layer.scaling["default"]

    def forward(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out: Any = _LoraLinear.apply(flat, a.weight, b.weight, scale, product, source_of(x))
        return out.view(*x.shape[:-1], -1)

    return forward


def _bare_forward_of(product: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        out, _ = product.forward(x.reshape(-1, x.shape[-1]))
        return out.view(*x.shape[:-1], -1)

    return forward


@contextmanager
def training_forms(model: nn.Module, plan: Plan) -> Iterator[bool]:
    """LoRA layers in their training form where all of them have one, and what enters them made again instead of kept;
    yields whether autocast is still needed.

    Autocast's copies cost a fifth of a step on CPUs (docs/experiments.md, "LoRA steps on the CPU"), and a GPU waits
    until each is asked for.
    """
    if plan.device.value not in ("cpu", "cuda") or plan.precision.value not in ("bf16", "fp32") or not covers(model):
        yield True
        return
    with ExitStack() as forms:
        forms.enter_context(low_memory_lora(model))
        lean = plan.activations.value != "kept"
        compact = lean and _multiplies_integers(model)
        forms.enter_context(remembered_sources(model, activations=lean, compact=compact))
        if lean and plan.device.value == "cpu":
            forms.enter_context(lean_attention(model))
        yield False


def _multiplies_integers(model: nn.Module) -> bool:
    return any(isinstance(product_of(module), IntegerProduct) for module in model.modules())
