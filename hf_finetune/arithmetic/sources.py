"""Inputs that are made again in the backward pass instead of being kept: outputs of layer norms and activations.

A norm keeps what enters it for its own gradient, an activation likewise. A layer behind it that needs the output again
(LoRA's first factor does) can compute it from that, for a pass over memory. Where an output came from travels on the
tensor, so that no architecture has to be known: what comes out of a dropout of zero is the same tensor, what was
reshaped has lost its source and is kept as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_finetune.arithmetic.integer import Rows, quantize_rows

_NAME = "_hf_finetune_source"


@dataclass(frozen=True)
class Source:
    """`make(*kept)` gives the tensor again; `kept` are on the tape anyway. `version` of the tensor when it was made."""

    kept: tuple[Tensor, ...]
    make: Callable[..., Tensor]
    version: int


def source_of(x: Tensor) -> Source | None:
    """Where `x` came from; None where it has to be kept."""
    source: Source | None = getattr(x, _NAME, None)
    return source if source is not None and source.version == x._version else None


@contextmanager
def remembered_sources(model: nn.Module, *, activations: bool, compact: bool) -> Iterator[None]:
    """Inside, frozen layer norms of `model` say where their outputs came from, and `activations` do where asked to: a
    GELU computed twice is a twelfth of a step of ViT-Tiny on a CPU, a norm nothing that can be seen.

    With `compact` an activation keeps its own input in 8 bits a number and one scale a token: half of the bytes, for a
    gradient that is off by that rounding. For layers that round as much themselves.
    """
    changed: list[Any] = []
    modules: Iterator[Any] = model.modules()
    for module in modules:
        usual: Callable[[Tensor], Tensor] = module.forward
        if "forward" in vars(module):
            continue
        if activations and _is_activation(module):
            module.forward = _compact_form(usual) if compact else _whole_form(usual)
            changed.append(module)
        elif _is_frozen_norm(module):
            module.forward = _whole_form(usual)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)


def _is_frozen_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) and not any(weight.requires_grad for weight in module.parameters())


def _whole_form(usual: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        out = usual(x)
        return _with_source(out, (x,), usual) if torch.is_grad_enabled() else out

    return forward


def _compact_form(usual: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return usual(x)
        rows, shape = quantize_rows(x.detach().reshape(-1, x.shape[-1])), x.shape
        out: Any = _Compact.apply(x, rows, usual)
        return _with_source(out, tuple(rows), lambda *kept: usual(_values(Rows(*kept)).view(shape)))

    return forward


def _with_source(out: Tensor, kept: tuple[Tensor, ...], make: Callable[..., Tensor]) -> Tensor:
    setattr(out, _NAME, Source(kept, make, out._version))
    return out


def _values(rows: Rows) -> Tensor:
    return rows.values().mul_(rows.scales)


class _Compact(torch.autograd.Function):
    """f(x), x kept as int8 rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(*rows)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.enable_grad():
            x = _values(Rows(*ctx.saved_tensors)).view(grad.shape).requires_grad_()
            (to_x,) = torch.autograd.grad(ctx.function(x), x, grad)
        return to_x, None, None


# Modules that act number by number, depend on nothing else and keep nothing: torch's, timm's and transformers' (read in
# 2.15, 1.0.31 and 5.24).
_ACTIVATIONS = {
    "GELU",
    "GELUTanh",
    "QuickGELU",
    "SiLU",
    "GELUActivation",
    "NewGELUActivation",
    "QuickGELUActivation",
    "SiLUActivation",
}


def _is_activation(module: nn.Module) -> bool:
    ours = type(module).__module__.startswith(("torch.", "timm.", "transformers."))
    return ours and type(module).__name__ in _ACTIVATIONS and not getattr(module, "inplace", False)
