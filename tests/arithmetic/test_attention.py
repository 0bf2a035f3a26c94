"""Attention that keeps q, k and v: torch's own numbers, forward and back, and torch itself where it is not plain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hf_finetune.arithmetic.attention import lean_attention


class Attention(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.fused_attn, self.settings = False, settings

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.fused_attn:
            return functional.scaled_dot_product_attention(q, k, v, **self.settings)
        scores = q @ k.transpose(-2, -1) * self.settings.get("scale", q.shape[-1] ** -0.5)
        mask = self.settings.get("attn_mask")
        return (scores if mask is None else scores + mask).softmax(-1) @ v


MASK = torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("settings", [{}, {"scale": 0.3}, {"attn_mask": MASK}])
def test_numbers_are_those_of_plain_attention(settings: dict[str, Any]) -> None:
    model, generator = Attention(**settings), torch.Generator().manual_seed(0)
    given = [torch.randn(2, 3, 7, 4, generator=generator).requires_grad_() for _ in range(3)]
    grad = torch.randn(2, 3, 7, 4, generator=generator)
    plain = model(*given)
    expected = torch.autograd.grad(plain, given, grad)
    kept: list[Tensor] = []
    with lean_attention(model), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        assert model.fused_attn
        out = model(*given)
    torch.testing.assert_close(out, plain)
    for found, wanted in zip(torch.autograd.grad(out, given, grad), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not model.fused_attn
    assert all(each.shape != (2, 3, 7, 7) for each in kept), "the weights of all pairs were kept"


def test_what_is_not_plain_is_torchs() -> None:
    model = Attention(is_causal=True)
    q = torch.randn(2, 3, 7, 4, generator=torch.Generator().manual_seed(0))
    expected = functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    with lean_attention(model):
        torch.testing.assert_close(model(q, q, q), expected)


def test_a_fused_model_is_left_alone() -> None:
    model = Attention()
    model.fused_attn = True
    q = torch.randn(2, 3, 7, 4, requires_grad=True)
    with lean_attention(model):
        assert "_Attention" not in type(model(q, q, q).grad_fn).__name__
    assert model.fused_attn


def test_a_transformers_model_is_switched_and_back() -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16)
    model = ViTModel(config).eval()
    model.set_attn_implementation("eager")
    pixels = torch.randn(1, 3, 16, 16)
    expected = model(pixels).last_hidden_state
    with lean_attention(model):
        assert model.config._attn_implementation == "sdpa"
        found = model(pixels).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert model.config._attn_implementation == "eager"


def test_a_recomputed_block_attends_as_in_the_forward_pass() -> None:
    model, generator = Attention(), torch.Generator().manual_seed(0)
    given = [torch.randn(2, 3, 7, 4, generator=generator).requires_grad_() for _ in range(3)]
    expected = torch.autograd.grad(model(*given).sum(), given)
    with lean_attention(model):
        checkpoint(model, *given, use_reentrant=False).sum().backward()
    for tensor, wanted in zip(given, expected, strict=True):
        torch.testing.assert_close(tensor.grad, wanted)
