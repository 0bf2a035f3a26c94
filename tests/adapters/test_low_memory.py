"""The training form of LoRA layers gives PEFT's numbers, in outputs and gradients, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_finetune.adapters import Lora
from hf_finetune.adapters.low_memory import answering_lora, covers, low_memory_lora
from tests.training.rows import SIDE, adapted, save_tiny_vit, tiny_recipe


def gradients(model: torch.nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(pixel_values=pixels).logits
    logits.square().sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rslora", [False, True])
def test_outputs_and_gradients_are_pefts(tmp_path: Path, rslora: bool) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"), adapter={"kind": "lora", "rank": 3, "rslora": rslora})
    model, _ = adapted(recipe)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    pixels = torch.randn(4, 3, SIDE, SIDE)
    logits, grads = gradients(model, pixels)
    assert covers(model)
    with low_memory_lora(model):
        again, low = gradients(model, pixels)
    torch.testing.assert_close(again, logits, rtol=1e-5, atol=1e-5)
    assert grads.keys() == low.keys()
    assert sum("lora_" in name for name in grads) == 24  # 2 blocks of 6 layers, two factors each
    for name, grad in grads.items():
        torch.testing.assert_close(low[name], grad, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(model(pixel_values=pixels).logits, logits, rtol=0, atol=0)


def test_a_model_that_answers_computes_nothing_of_layers_that_no_rung_trained(tmp_path: Path) -> None:
    model, _ = adapted(tiny_recipe(save_tiny_vit(tmp_path / "tiny"), adapter={"kind": "lora", "rank": 3}))
    weights = dict(model.named_parameters())
    trained = [name for name in weights if "lora_B" in name and ".1." in name]  # of the second block alone
    for name in trained:
        torch.nn.init.normal_(weights[name], std=0.1)
    model.eval()
    pixels = torch.randn(4, 3, SIDE, SIDE)
    with torch.no_grad():
        with low_memory_lora(model):
            logits = model(pixel_values=pixels).logits
        for name in weights:
            if "lora_A" in name and name.replace("lora_A", "lora_B") not in trained:
                weights[name].fill_(torch.nan)  # whoever multiplies by it is found out
        with answering_lora(model):
            assert torch.equal(model(pixel_values=pixels).logits, logits)
        with low_memory_lora(model):
            assert model(pixel_values=pixels).logits.isnan().all()


@pytest.mark.parametrize("settings", [{"dropout": 0.1}, {"dora": True}])
def test_other_layers_are_left_to_peft(tmp_path: Path, settings: dict[str, object]) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"))
    model, _ = adapted(recipe, Lora.model_validate({"kind": "lora", **settings}))
    assert not covers(model)
    before = {id(module): module.forward for module in model.modules()}
    with low_memory_lora(model):
        assert all(module.forward == before[id(module)] for module in model.modules())
