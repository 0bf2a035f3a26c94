"""What a frozen linear layer multiplies by, forward and back, whatever its weights are kept in.

A quantized layer gives its own product (`frozen_product`, backbones/quantized.py); torch's Linear is plain. Nothing of
the input is kept for a frozen layer: only an adapter beside it needs that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_finetune.arithmetic.integer import IntegerWeight, Rows


class Product(Protocol):
    """x Wᵀ + b and its gradient, for frozen W [N, K] and b [N]."""

    def forward(self, x: Tensor) -> tuple[Tensor, Rows | None]:
        """[M, K] → [M, N], and the input as it was quantized, where it was."""
        ...

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What autograd has to keep for `backward`: weights that may lie elsewhere by then (streamed blocks)."""
        ...

    def backward(self, grad: Tensor, *weights: Tensor) -> Tensor:
        """The gradient of x [M, K] for that of the output [M, N]."""
        ...


class PlainProduct:
    """Of torch's own Linear."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """See Product."""
        return functional.linear(x, self._layer.weight, self._layer.bias), None

    @property
    def weights(self) -> tuple[Tensor]:
        """See Product."""
        return (self._layer.weight,)

    def backward(self, grad: Tensor, *weights: Tensor) -> Tensor:
        """See Product."""
        (weight,) = weights
        return grad @ weight


class DequantizedProduct:
    """Of weights [N, K] that are made floating-point for each product: `weight(dtype)`."""

    weights: tuple[Tensor, ...] = ()

    def __init__(self, layer: nn.Linear, weight: Callable[[torch.dtype], Tensor]) -> None:
        self._layer, self._weight = layer, weight

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """See Product."""
        return functional.linear(x, self._weight(x.dtype), bias_of(self._layer, x.dtype)), None

    def backward(self, grad: Tensor, *_: Tensor) -> Tensor:
        """See Product."""
        return grad @ self._weight(grad.dtype)


class IntegerProduct:
    """Of weights that stay integers."""

    weights: tuple[Tensor, ...] = ()

    def __init__(self, layer: nn.Linear, weight: IntegerWeight) -> None:
        self._layer, self._weight = layer, weight

    def forward(self, x: Tensor) -> tuple[Tensor, Rows]:
        """See Product."""
        return self._weight.forward(x, bias_of(self._layer, x.dtype))

    def backward(self, grad: Tensor, *_: Tensor) -> Tensor:
        """See Product."""
        return self._weight.backward(grad)


def bias_of(layer: nn.Linear, dtype: torch.dtype) -> Tensor | None:
    """The layer's bias in the type of its input; None without one."""
    return None if layer.bias is None else layer.bias.detach().to(dtype)


def product_of(layer: Any) -> Product | None:
    """How this frozen layer is multiplied; None for a kind that is not known."""
    if type(layer) is nn.Linear:
        return PlainProduct(layer)
    give = getattr(layer, "frozen_product", None)
    return None if give is None else give()


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product) -> Tensor:
        out, _ = product.forward(x)
        ctx.product = product
        ctx.save_for_backward(*product.weights)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (ctx.product.backward(grad, *ctx.saved_tensors) if ctx.needs_input_grad[0] else None), None


def multiply(x: Tensor, product: Product) -> Tensor:
    """x [..., K] → [..., N]; for the backward pass nothing is kept."""
    flat = x.reshape(-1, x.shape[-1])
    out: Any = _Frozen.apply(flat, product)
    return out.view(*x.shape[:-1], -1)
