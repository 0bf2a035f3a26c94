"""An evaluation must not change how a quantized backbone trains afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_finetune.adapters import Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.quantizers import Int8, Nf4
from tests.training.rows import LABELS, save_tiny_vit


@pytest.mark.parametrize("quantizer", [Int8(), Nf4()], ids=lambda each: each.kind)
def test_gradients_are_the_same_before_and_after_an_evaluation(quantizer: Int8 | Nf4, tmp_path: Path) -> None:
    source = Model(name=str(save_tiny_vit(tmp_path)))
    facts = read_facts(source, len(LABELS.names))
    base = load_backbone(
        source,
        LABELS,
        dtype=torch.bfloat16,
        seed=0,
        quantization_config=quantizer.config(facts.head),
        device_map={"": "cpu"},
    )
    model = Lora().apply(base, facts)
    pixels = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradients() -> dict[str, torch.Tensor]:
        model.train()
        model.zero_grad()
        model(pixel_values=pixels).logits.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(pixel_values=pixels)
    after = gradients()
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        torch.testing.assert_close(gradient, after[name], msg=lambda text, n=name: f"{n}: {text}")
