"""Every architecture: all modules accounted for, exactly the trained weights change, and stock libraries load both the
adapter and the whole model that it merges into."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForImageClassification

from hf_finetune.adapters import HeadOnly, Lora
from hf_finetune.adapters.attach import attach
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import AdapterError, ModelError
from hf_finetune.labels import Labels
from hf_finetune.result.answers import logits_of
from hf_finetune.result.compare import compare_whole, generated_pixels, stock_logits
from hf_finetune.result.merge import save_merged
from hf_finetune.types import BackboneFacts
from tests.matrix.architectures import (
    EVERY,
    HEAD_ONLY,
    LEFT_OUT,
    TRANSFORMERS,
    every_architecture,
    write_timm,
    write_transformers,
)

LABELS = Labels(("n/a", "1", "True"))
# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]
# timm's DLA calls a part of its own `base_layer`, the name by which peft 0.21.2 tells its wrappers.
NOT_MERGED = {"dla46x_c": "PEFT cannot merge this adapter into its base model: 'DLA' object has no attribute 'merge'"}


def check_loads_every_weight(base: nn.Module, original: nn.Module, head: tuple[str, ...], pixels: torch.Tensor) -> None:
    """With the checkpoint's own head put back, the loaded model answers as the one that was saved."""
    for name in head:
        theirs = original.get_submodule(name.removeprefix("timm_model."))
        base.get_submodule(name).load_state_dict(theirs.state_dict())
    with torch.no_grad():
        wanted = original(pixels)
        wanted = wanted if isinstance(wanted, torch.Tensor) else wanted.logits
        torch.testing.assert_close(base(pixel_values=pixels).logits, wanted, rtol=1e-5, atol=1e-5)


def train_step(model: PeftModel, pixels: torch.Tensor, classes: torch.Tensor) -> None:
    model.train()
    for norm in frozen_norms(model):
        norm.eval()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    nn.functional.cross_entropy(model(pixel_values=pixels).logits, classes).backward()
    # Each gradient at length one: random networks give gradients many orders of magnitude apart.
    with torch.no_grad():
        for weight in trained:
            assert weight.grad is not None
            assert weight.grad.norm() > 0
            weight.sub_(0.01 * weight.grad / weight.grad.norm())
            weight.grad = None


def check_all_accounted_for(model: nn.Module, facts: BackboneFacts) -> None:
    adapted = {name for names in facts.targets.values() for name in names}
    assert adapted.isdisjoint(facts.excluded)
    eligible = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and name not in facts.head
    }
    assert eligible == adapted | set(facts.excluded)
    assert all(facts.excluded.values())


def check_merges(adapted: PeftModel, facts: BackboneFacts, folder: Path) -> None:
    """Merged and written, it answers through stock transformers as before. `adapted` is of no use afterwards."""
    pixels = generated_pixels(facts.preprocess)
    expected = logits_of(adapted, pixels, facts.preprocess)
    folder.mkdir()
    save_merged(adapted, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    compare_whole(expected, stock_logits(folder, LABELS.names, pixels, facts.preprocess))


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


@pytest.mark.parametrize("architecture", every_architecture())
def test_adapts_trains_exactly_its_weights_and_reloads(architecture: tuple[str, str], tmp_path: Path) -> None:
    library, name = architecture
    write = write_transformers if library == "transformers" else write_timm
    original = write(name, tmp_path / "base", 3)
    model = Model(name=str(tmp_path / "base"))
    facts = read_facts(model, num_labels=3)
    side = facts.preprocess.height
    generator = torch.Generator().manual_seed(1)
    pixels, classes = torch.randn(4, 3, side, side, generator=generator), torch.tensor([0, 1, 2, 0])
    base = load_backbone(model, LABELS, dtype=torch.float32, seed=3)
    check_all_accounted_for(base, facts)
    if library == "timm":
        known = original.get_classifier()
        known = known if isinstance(known, tuple) else (known,)
        # LeViT's classifier is a batch norm and a Linear; the norm belongs to the frozen backbone here.
        wanted = [part for each in known for part in each.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
        assert [original.get_submodule(each.removeprefix("timm_model.")) for each in facts.head] == wanted
    check_loads_every_weight(base, original, facts.head, pixels)

    lora = Lora(rank=2)
    adapted = lora.apply(base, facts)
    count = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert lora.trainable_parameters(facts, 3) == count
    with torch.no_grad():
        for part, weight in adapted.named_parameters():
            if "lora_B" in part:
                weight.normal_(0, 0.02, generator=generator)
    before = snapshot(adapted)
    train_step(adapted, pixels, classes)
    trained = {part for part, weight in adapted.named_parameters() if weight.requires_grad}
    changed = {part for part, tensor in snapshot(adapted).items() if not torch.equal(tensor, before[part])}
    assert changed == trained

    for _ in range(7):
        train_step(adapted, pixels, classes)
    adapted.eval()
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        wanted = adapted(pixel_values=pixels).logits
        fresh = load_backbone(model, LABELS, dtype=torch.float32, seed=4)
        ours = attach(fresh, tmp_path / "adapter")(pixel_values=pixels).logits
        stock = AutoModelForImageClassification.from_pretrained(model.name, num_labels=3, ignore_mismatched_sizes=True)
        stock = PeftModel.from_pretrained(stock, tmp_path / "adapter").eval()(pixel_values=pixels).logits
    assert wanted.isfinite().all()
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stock, wanted, rtol=1e-5, atol=1e-5)
    if name in NOT_MERGED:
        with pytest.raises(AdapterError, match=NOT_MERGED[name]):
            check_merges(adapted, facts, tmp_path / "whole")
    else:
        check_merges(adapted, facts, tmp_path / "whole")


@pytest.mark.parametrize("kind", HEAD_ONLY)
def test_an_architecture_that_lora_cannot_serve_is_refused_and_adapted_head_only(kind: str, tmp_path: Path) -> None:
    write_transformers(kind, tmp_path / "base", 3, head_only=True)
    model = Model(name=str(tmp_path / "base"))
    facts = read_facts(model, num_labels=3)
    base = load_backbone(model, LABELS, dtype=torch.float32, seed=3)
    check_all_accounted_for(base, facts)
    assert facts.targets == {}
    with pytest.raises(ModelError) as raised:
        Lora().apply(base, facts)
    assert "has nothing that LoRA can adapt: " in raised.value.message
    assert HEAD_ONLY[kind][2] in raised.value.message

    adapted = HeadOnly().apply(base, facts)
    pixels, classes = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    before = snapshot(adapted)
    for _ in range(8):
        train_step(adapted, pixels, classes)
    changed = {part for part, tensor in snapshot(adapted).items() if not torch.equal(tensor, before[part])}
    assert changed == {part for part, weight in adapted.named_parameters() if weight.requires_grad}
    adapted.eval().save_pretrained(tmp_path / "adapter")
    fresh = load_backbone(model, LABELS, dtype=torch.float32, seed=4)
    with torch.no_grad():
        ours = attach(fresh, tmp_path / "adapter")(pixel_values=pixels).logits
        torch.testing.assert_close(ours, adapted(pixel_values=pixels).logits)
    check_merges(adapted, facts, tmp_path / "whole")


def test_at_least_forty_architectures_run_and_the_rest_of_the_mapping_is_named() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as MAPPING

    assert len(EVERY) >= 90
    assert set(TRANSFORMERS) | set(LEFT_OUT) == set(MAPPING)
    assert not set(TRANSFORMERS) & set(LEFT_OUT)
