"""Adapters: what they train, what they save, and how a wrong one is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.adapters.attach import attach
from hf_finetune.adapters.resolve import resolve_targets
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import AdapterError, ModelError
from hf_finetune.labels import Labels
from hf_finetune.types import BackboneFacts
from tests.backbones.small import write_timm, write_vit

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = Labels(("x", "y"))


def load(folder: Path, seed: int = 0) -> tuple[PreTrainedModel, BackboneFacts]:
    model = Model(name=str(folder))
    return load_backbone(model, LABELS, dtype=torch.float32, seed=seed), read_facts(model)


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def shake(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(
    ("lora", "scale", "count"),
    [
        (Lora(rank=4), 2.0, 0),
        (Lora(rank=4, alpha=12), 3.0, 0),
        (Lora(rank=4, rslora=True), 4.0, 0),
        (Lora(rank=4, dora=True), 2.0, 2 * (4 * 64 + 64 + 128)),
    ],
)
def test_the_scale_and_the_count_are_those_of_the_recipe(tmp_path: Path, lora: Lora, scale: float, count: int) -> None:
    base, facts = load(write_vit(tmp_path))
    wrapped = lora.apply(base, facts)
    layer = wrapped.get_submodule("base_model.model.vit.layers.0.mlp.fc1")
    plain = 4 * 2 * (4 * (64 + 64) + (64 + 128) + (128 + 64)) + 2 * 65
    trained = sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)

    assert layer.scaling["default"] == scale
    assert trained == plain + count == lora.trainable_parameters(facts, 2)


def test_dropout_is_the_recipes(tmp_path: Path) -> None:
    base, facts = load(write_vit(tmp_path))
    layer = Lora(dropout=0.25).apply(base, facts).get_submodule("base_model.model.vit.layers.0.mlp.fc1")
    assert layer.lora_dropout["default"].p == 0.25


def test_an_untrained_adapter_changes_nothing(tmp_path: Path) -> None:
    for number, adapter in enumerate((Lora(), HeadOnly(), Lora(dora=True))):
        base, facts = load(write_vit(tmp_path / str(number)))
        with torch.no_grad():
            before = base(pixel_values=pixels()).logits
            torch.testing.assert_close(adapter.apply(base, facts)(pixel_values=pixels()).logits, before)


def test_targets_are_chosen_by_role_by_ending_and_by_name(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))

    assert len(resolve_targets(("attention",), facts)) == 8
    assert resolve_targets(("fc1",), facts) == ("vit.layers.0.mlp.fc1", "vit.layers.1.mlp.fc1")
    assert resolve_targets(("1.mlp.fc2", "vit.layers.0.mlp.fc1"), facts) == (
        "vit.layers.0.mlp.fc1",
        "vit.layers.1.mlp.fc2",
    )
    assert len(resolve_targets("all", facts)) == 12


def test_only_the_named_modules_get_an_adapter(tmp_path: Path) -> None:
    base, facts = load(write_vit(tmp_path))
    wrapped = Lora(targets=("1.mlp.fc2",)).apply(base, facts)
    holders = {name.partition(".lora_")[0] for name, _ in wrapped.named_parameters() if ".lora_" in name}
    assert holders == {"base_model.model.vit.layers.1.mlp.fc2"}


def test_an_unknown_target_is_refused_with_what_the_model_has(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))
    with pytest.raises(ModelError) as raised:
        resolve_targets(("query",), facts)
    assert raised.value.message == (
        f"adapter.targets: 'query' matches no module of {facts.name!r} (ViTForImageClassification)"
    )
    assert raised.value.hint == (
        "it has the roles attention (8), mlp (4) and the endings attention.k_proj, attention.o_proj, "
        "attention.q_proj, attention.v_proj, mlp.fc1, mlp.fc2"
    )
    with pytest.raises(ModelError, match=r"did you mean attention or attention.v_proj or attention.q_proj"):
        resolve_targets(("atention",), facts)


def test_a_role_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))
    with pytest.raises(ModelError, match=r"adapter.targets: 'conv' matches no module of"):
        resolve_targets(("conv",), facts)


def test_the_head_as_a_target_is_refused(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))
    with pytest.raises(ModelError) as raised:
        resolve_targets(("classifier",), facts)
    assert raised.value.message == (
        f"adapter.targets: 'classifier' is the head of {facts.name!r}, which is always trained in full"
    )


def test_an_excluded_target_is_refused_with_its_reason(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))
    with pytest.raises(ModelError) as raised:
        resolve_targets(("patch_embeddings.projection",), facts)
    assert raised.value.message == (
        f"adapter.targets: 'patch_embeddings.projection' of {facts.name!r} cannot be adapted: "
        "reads the pixels: its filters fit any photo, and adapting it costs a backward pass at full resolution"
    )


def test_a_backbone_with_nothing_to_adapt_is_refused_with_the_reasons(tmp_path: Path) -> None:
    _, facts = load(write_vit(tmp_path))
    bare = replace(facts, name="bare", targets={}, excluded={"a": "too grouped", "b": "too grouped"})
    with pytest.raises(ModelError) as raised:
        resolve_targets("all", bare)
    assert raised.value.message == (
        "'bare' (ViTForImageClassification) has nothing that LoRA can adapt: 2 modules: too grouped"
    )
    assert raised.value.hint == (
        "use adapter.kind=head_only or full, or another backbone (the timm version of this one, if there is one)"
    )
    with pytest.raises(ModelError, match="it holds no Linear and no convolution outside its head"):
        resolve_targets("all", replace(bare, excluded={}))


def test_head_only_trains_and_saves_the_head_alone(tmp_path: Path) -> None:
    for number, folder in enumerate((write_vit(tmp_path / "vit"), write_timm(tmp_path / "cnn", "test_resnet"))):
        base, facts = load(folder)
        wrapped = HeadOnly().apply(base, facts)
        trained = [weight for weight in wrapped.parameters() if weight.requires_grad]
        assert sum(weight.numel() for weight in trained) == HeadOnly().trainable_parameters(facts, 2)
        saved_at = tmp_path / f"adapter{number}"
        shake(wrapped).save_pretrained(saved_at)
        saved = load_file(saved_at / "adapter_model.safetensors")
        assert sum(tensor.numel() for tensor in saved.values()) == sum(weight.numel() for weight in trained)
        stock = AutoModelForImageClassification.from_pretrained(folder, num_labels=2, ignore_mismatched_sizes=True)
        with torch.no_grad():
            wanted = wrapped.eval()(pixel_values=pixels()).logits
            ours = attach(load(folder, seed=9)[0], saved_at)(pixel_values=pixels()).logits
            theirs = PeftModel.from_pretrained(stock, saved_at).eval()(pixel_values=pixels()).logits
        # Weights from a file lie otherwise in memory, by which a kernel may choose the order of its sums.
        torch.testing.assert_close(ours, wanted)
        torch.testing.assert_close(theirs, wanted)


def test_full_trains_every_weight(tmp_path: Path) -> None:
    base, facts = load(write_vit(tmp_path))
    base.requires_grad_(False)
    model = Full().apply(base, facts)
    assert all(weight.requires_grad for weight in model.parameters())
    assert Full().trainable_parameters(facts, 2) == sum(weight.numel() for weight in model.parameters())
    assert Full().trainable_parameters(facts, 7) - Full().trainable_parameters(facts, 2) == 5 * 65


def test_norms_with_running_statistics_are_frozen_unless_they_train(tmp_path: Path) -> None:
    folder = write_timm(tmp_path, "test_resnet")
    base, facts = load(folder)
    count = sum(isinstance(module, nn.BatchNorm2d) for module in base.modules())
    assert count > 0
    assert len(frozen_norms(Lora(rank=2).apply(base, facts))) == count
    full = Full().apply(load(folder)[0], facts)
    assert frozen_norms(full) == []


def test_a_norm_without_weights_is_frozen_with_the_rest() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.LayerNorm(2))
    assert frozen_norms(model) == []
    model[0].requires_grad_(False)
    assert frozen_norms(model) == [model[1]]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base, facts = load(write_vit(tmp_path / "base"))
    shake(Lora(rank=2).apply(base, facts)).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def edit(adapter: Path, drop: str = "", rename: tuple[str, str] | None = None) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    if drop:
        del tensors[drop]
    if rename:
        tensors[rename[1]] = tensors.pop(rename[0])
    save_file(tensors, path)


LORA_A = "base_model.model.vit.layers.0.mlp.fc1.lora_A.weight"


def test_a_saved_adapter_holds_lora_and_head_and_nothing_else(adapter: Path) -> None:
    saved = load_file(adapter / "adapter_model.safetensors")
    assert {name.rpartition(".")[0] for name in saved if "lora_" not in name} == {"base_model.model.classifier"}
    assert len(saved) == 12 * 2 + 2
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_an_adapter_that_lacks_a_weight_is_refused(adapter: Path) -> None:
    edit(adapter, drop=LORA_A)
    with pytest.raises(AdapterError) as raised:
        attach(load(adapter.parent / "base")[0], adapter)
    assert raised.value.message == f"adapter_model.safetensors in 'adapter' lacks 1 weights: {LORA_A}"
    assert raised.value.hint == "it is incomplete, or belongs to another base model"


def test_an_adapter_without_its_head_is_refused(adapter: Path) -> None:
    edit(adapter, drop="base_model.model.classifier.weight")
    with pytest.raises(AdapterError, match="the adapter in 'adapter' does not fit ViTForImageClassification"):
        attach(load(adapter.parent / "base")[0], adapter)


def test_an_adapter_with_a_weight_of_no_place_is_refused(adapter: Path) -> None:
    edit(adapter, rename=(LORA_A, LORA_A.replace("layers.0", "layers.7")))
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors in 'adapter' lacks 1 weights"):
        attach(load(adapter.parent / "base")[0], adapter)


def test_an_adapter_of_another_backbone_or_label_set_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="the adapter in 'adapter' does not fit TimmWrapperForImageClassification"):
        attach(load(write_timm(tmp_path / "other"))[0], adapter)
    model = Model(name=str(adapter.parent / "base"))
    three = load_backbone(model, Labels(("a", "b", "c")), dtype=torch.float32, seed=0)
    with pytest.raises(AdapterError) as raised:
        attach(three, adapter)
    assert raised.value.hint == "load it on the base model that it was trained on, with the same number of labels"


def test_a_folder_without_an_adapter_or_with_a_damaged_one_is_refused(adapter: Path, tmp_path: Path) -> None:
    base, _ = load(adapter.parent / "base")
    with pytest.raises(AdapterError, match=r"holds no adapter_config\.json"):
        attach(base, tmp_path)
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors in .* is damaged"):
        attach(base, adapter)


def test_the_revision_of_the_base_is_written_into_the_adapter(tmp_path: Path) -> None:
    base, facts = load(write_vit(tmp_path / "base"))
    Lora(rank=2).apply(base, replace(facts, commit="abc")).save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["revision"] == "abc"


@pytest.mark.e2e
@pytest.mark.real
@pytest.mark.parametrize("name", ["vit_tiny_timm", "vit_tiny_transformers", "mobilenetv2_timm"])
def test_adapters_of_the_real_checkpoints_save_and_load(shared_data: Path, tmp_path: Path, name: str) -> None:
    folder = shared_data / "weights" / name
    images = torch.randn(2, 3, 224, 224)
    base, facts = load(folder)
    wrapped = shake(Lora(rank=4).apply(base, facts)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = wrapped(pixel_values=images).logits
        torch.testing.assert_close(attach(load(folder, seed=4)[0], tmp_path)(pixel_values=images).logits, wanted)
