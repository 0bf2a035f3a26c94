"""Models of five blocks, and what some steps of training give."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

from hf_finetune.adapters import HeadOnly, Lora
from hf_finetune.adapters.low_memory import low_memory_lora
from hf_finetune.backbones.anatomy import find_blocks
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.recompute import recompute
from hf_finetune.labels import Labels
from hf_finetune.types import BackboneFacts
from tests.backbones.small import PROCESSOR, write_timm

LABELS = Labels(("a", "b", "c"))


def write_deep_vit(folder: Path) -> Path:
    """Five blocks, so that a slot is used by three of them."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=5, num_attention_heads=2)
    config.intermediate_size, config.num_labels = 128, 5
    ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def write(kind: str, folder: Path) -> Model:
    folder.mkdir()
    write_deep_vit(folder) if kind == "transformers" else write_timm(folder, "test_vit", depth=5)
    return Model(name=str(folder))


def build(
    model: Model, dtype: torch.dtype, adapter: Lora | HeadOnly, files: Sequence[Path] = ()
) -> tuple[nn.Module, BackboneFacts]:
    facts = read_facts(model)
    loaded = load_backbone(model, LABELS, dtype=dtype, seed=0, plain_attention=True, frozen_files=files)
    torch.manual_seed(1)
    adapted = adapter.apply(loaded, facts)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # zeros at first, and then A would have no gradient
            torch.nn.init.normal_(weight.data, std=0.2)
    return adapted, facts


def steps(model: nn.Module, count: int = 2) -> list[torch.Tensor]:
    """Logits and gradients of some steps, and the logits of an evaluation."""
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found: list[torch.Tensor] = []
    for _ in range(count):
        model.train()
        model.zero_grad()
        logits = model(pixel_values=pixels).logits
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        found += [logits.detach(), *(weight.grad.clone() for weight in trained if weight.grad is not None)]
        with torch.no_grad():
            for weight in trained:
                weight -= 0.1 * weight.grad
    model.eval()
    with torch.inference_mode():
        found.append(model(pixel_values=pixels).logits.clone())
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 10 and all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@contextmanager
def form(kind: str, model: nn.Module) -> Iterator[None]:
    if kind == "recomputed":
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        recompute(model, find_blocks(base, ()), 99)
    with low_memory_lora(model) if kind == "low memory" else nullcontext():
        yield
