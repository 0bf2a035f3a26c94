"""Attention that keeps queries, keys and values, and makes its weights again in the backward pass.

On a CPU torch's fused attention has a slow backward pass, and plain attention keeps a weight for each pair of tokens:
with 197 tokens as many bytes as queries, keys and values together. One more product of queries and keys is the price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Attention(torch.autograd.Function):
    """softmax(s q kᵀ + m) v for q, k, v [B, H, N, d] and a mask m without gradient, of [B, H, N, N] or less."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        ctx.scale = scale
        return _weights(q, k, mask, scale) @ v

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, mask = ctx.saved_tensors
        weights = _weights(q, k, mask, ctx.scale)
        to_v = weights.transpose(-2, -1) @ grad
        to_weights = grad @ v.transpose(-2, -1)
        to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        return to_scores @ k, to_scores.transpose(-2, -1) @ q, to_v, None, None


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = (q * scale) @ k.transpose(-2, -1)
    return (scores if mask is None else scores.add_(mask)).softmax(-1)


@contextmanager
def _intercepted() -> Iterator[None]:
    """Inside, torch's fused attention is ours where it is plain: no dropout, as many heads of keys as of queries.

    timm and transformers look it up in torch.nn.functional at each call. A TorchFunctionMode would reach more, but
    torch takes it away while `backward` runs, and with it from blocks that are recomputed in there.
    """
    usual = functional.scaled_dot_product_attention

    def attention(*args: Any, **kwargs: Any) -> Tensor:
        found = _plain(*args, **kwargs)
        return usual(*args, **kwargs) if found is None else found

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = usual


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Called with torch's arguments; None where it is for torch to do."""
    if query.ndim != 4 or not query.shape[:2] == key.shape[:2] == value.shape[:2] or is_causal or enable_gqa:
        return None
    if attn_mask is not None and attn_mask.dtype != query.dtype:
        return None  # of booleans, or to be cast
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    if dropout_p or (attn_mask is not None and attn_mask.requires_grad):
        scores = (query * factor) @ key.transpose(-2, -1)
        weights = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        return functional.dropout(weights, dropout_p) @ value
    return _Attention.apply(query, key, value, attn_mask, factor)  # pyright: ignore[reportReturnType]


@contextmanager
def lean_attention(model: nn.Module) -> Iterator[None]:
    """Inside, attention that was made plain for a CPU (`plain_attention` of backbones/load.py) keeps q, k and v alone.

    Models whose attention is fused, or written out in a way of their own, stay as they are.
    """
    changed: list[Callable[[], None]] = []
    for module in model.modules():
        if getattr(module, "fused_attn", None) is False:
            changed.append(_switch(module, "fused_attn", False, True))
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) == "eager" and getattr(module, "_supports_sdpa", False):
            changed.append(_switch(config, "_attn_implementation", "eager", "sdpa"))
    try:
        if not changed:
            yield
            return
        with _intercepted():
            yield
    finally:
        for undo in changed:
            undo()


def _switch(owner: Any, name: str, before: Any, inside: Any) -> Callable[[], None]:
    setattr(owner, name, inside)
    return lambda: setattr(owner, name, before)
