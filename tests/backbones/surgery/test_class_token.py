"""The last block for the class token alone: same features, same gradients; refused where the head reads more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hf_finetune.adapters import Lora
from hf_finetune.backbones.surgery.class_token import (
    can_be_class_token_only,
    class_token_only,
)
from hf_finetune.backbones.surgery.cut import Watch
from tests.ladder.trained.test_cached import build

pytestmark = pytest.mark.e2e

# The others pool patches, read a second token, or have blocks of another kind.
SHORT = {
    *(("transformers", name) for name in ("deit", "vit", "vit_msn")),
    *(("timm", name) for name in ("deit3_small_patch16_224", "test_vit", "vit_base_patch16_clip_224")),
    *(("timm", name) for name in ("vit_small_patch14_dinov2", "vit_tiny_patch16_224")),
}


def features_of(model: nn.Module, head: tuple[str, ...], pixels: torch.Tensor) -> torch.Tensor:
    watch = Watch([model.get_submodule(name) for name in head], None)
    with torch.no_grad(), watch:
        model(pixel_values=pixels)
    return watch.features


@pytest.mark.parametrize(("library", "name"), sorted(SHORT), ids=lambda each: str(each))
@pytest.mark.parametrize("keys_and_values", ["held at zero", "trained"])
def test_gradients_are_those_of_the_whole_block(library: str, name: str, keys_and_values: str, tmp_path: Path) -> None:
    model, facts = build(library, name, tmp_path / "base")
    adapted = Lora(rank=3).apply(model, facts).train()
    for label, weight in adapted.named_parameters():
        if "lora_B" in label:
            nn.init.normal_(weight, std=0.3)
            if keys_and_values == "held at zero" and any(part in label for part in ("qkv", "k_proj", "v_proj")):
                third = len(weight) // 3 if "qkv" in label else 0
                weight.data[third:] = 0
    pixels = torch.randn(3, 3, facts.preprocess.height, facts.preprocess.width)
    wanted = gradients(adapted, pixels)
    with class_token_only(adapted.get_base_model().get_submodule(facts.blocks[-1])):  # pyright: ignore
        found = gradients(adapted, pixels)
    assert any("lora_B" in label and float(grad.abs().max()) > 0 for label, grad in wanted.items())
    assert found.keys() == wanted.keys()
    for label, grad in wanted.items():
        torch.testing.assert_close(found[label], grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max()), msg=label)


def gradients(model: nn.Module, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(pixel_values=pixels).logits.square().sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_a_block_without_a_class_token_form_runs_as_written() -> None:
    block = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    assert not can_be_class_token_only(block)
    x = torch.randn(2, 5, 8)
    wanted = block(x)
    with class_token_only(block):
        torch.testing.assert_close(block(x), wanted)
