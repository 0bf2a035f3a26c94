"""What is made again instead of kept: equal gradients, fewer bytes, and never a stale tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hf_finetune.arithmetic.sources import remembered_sources, source_of


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.drop = nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.0)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.act(self.norm(x)))


def test_outputs_say_what_they_are_made_of_and_only_inside() -> None:
    model, x = Mlp().train(), torch.randn(3, 8, requires_grad=True)
    with remembered_sources(model, activations=True, compact=False):
        out = model(x)
        source = source_of(out)
        assert source is not None
        torch.testing.assert_close(source.make(*source.kept), out, rtol=0, atol=0)
        normed = model.norm(x)
        found = source_of(normed)
        assert found is not None
        assert found.kept[0] is x
        assert source_of(normed.reshape(-1)) is None
        with torch.no_grad():
            assert source_of(model(x)) is None
    assert source_of(model(x)) is None


def test_what_was_changed_in_place_has_lost_its_source() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    with remembered_sources(model, activations=True, compact=False):
        out = model.act(x)
        out.mul_(2)
        assert source_of(out) is None


def test_a_norm_that_trains_is_left_alone() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    model.norm.requires_grad_(True)
    with remembered_sources(model, activations=True, compact=False):
        assert source_of(model.norm(x)) is None
        assert source_of(model.act(x)) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compact_activation_gives_the_same_output_and_nearly_its_gradient(dtype: torch.dtype) -> None:
    act = nn.GELU()
    x = torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    grad = torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    (exact,) = torch.autograd.grad(act(x), x, grad)
    with remembered_sources(act, activations=True, compact=True):
        out = act(x)
        torch.testing.assert_close(out, nn.functional.gelu(x), rtol=0, atol=0)
        source = source_of(out)
        assert source is not None
        assert [kept.dtype for kept in source.kept] == [torch.int8, dtype]
        assert relative(source.make(*source.kept), out) < 0.02
        (found,) = torch.autograd.grad(out, x, grad)
    assert relative(found, exact) < 0.02


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())
