"""Putting the closed-form head into a model: it says what the solution says, or it is taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.adapters.trained import trained_module
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.errors import ModelError
from hf_finetune.ladder.probe.heads import Head
from hf_finetune.ladder.probe.rung import check_installed, install
from tests.training.rows import SIDE, adapted, save_tiny_vit, tiny_recipe


@pytest.mark.parametrize("adapter", [Lora(), HeadOnly(), Full()], ids=lambda each: each.kind)
def test_the_model_says_what_the_head_says(tmp_path: Path, adapter: Lora | HeadOnly | Full) -> None:
    model, facts = adapted(tiny_recipe(save_tiny_vit(tmp_path / "tiny")), adapter)  # pyright: ignore[reportArgumentType]
    base = model if isinstance(adapter, Full) else model.get_base_model()  # pyright: ignore[reportCallIssue]
    pixels = torch.randn(5, 3, SIDE, SIDE)
    watch = Watch([base.get_submodule(name) for name in facts.head], None)  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad(), watch:
        model.eval()(pixel_values=pixels)
    head = Head(torch.randn(3, 64), torch.randn(3))
    expected = head.logits(watch.features.numpy())
    with pytest.raises(ModelError, match="differ by"):
        check_installed(model, pixels, expected, None)
    install(model, facts.head, head)
    check_installed(model, pixels, expected, None)
    torch.testing.assert_close(trained_module(model, facts.head[0]).weight, head.weight)
    assert np.isfinite(expected).all()


def test_a_head_of_small_logits_is_held_to_their_own_range(tmp_path: Path) -> None:
    model, facts = adapted(tiny_recipe(save_tiny_vit(tmp_path / "tiny")))
    pixels = torch.randn(5, 3, SIDE, SIDE)
    install(model, facts.head, Head(1e-3 * torch.randn(3, 64), torch.zeros(3)))
    with torch.no_grad():
        said = model.eval()(pixel_values=pixels).logits.numpy()
    assert np.abs(said).max() < 0.1
    check_installed(model, pixels, said, None)
    with pytest.raises(ModelError, match="differ by"):
        check_installed(model, pixels, said + 0.02 * np.ptp(said), None)


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    model, facts = adapted(tiny_recipe(save_tiny_vit(tmp_path / "tiny")))
    with pytest.raises(ModelError, match="takes 64 features, but 70 were seen"):
        install(model, facts.head, Head(torch.randn(3, 70), torch.randn(3)))
