"""Loading: nothing random but the head, and the head as promised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from hf_finetune.adapters import Lora
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.fingerprint import fingerprint
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.recompute import recompute
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from tests.backbones.small import edit_config, edit_weights, write_resnet, write_timm, write_vit

LABELS = Labels(("n/a", "1", "True", "Ünïcode"))


def load(folder: Path, labels: Labels = LABELS, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    return load_backbone(Model(name=str(folder)), labels, dtype=dtype, seed=seed)


def pixels(side: int = 32, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_labels_are_written_into_the_config_in_order(tmp_path: Path) -> None:
    for folder in (write_vit(tmp_path / "vit"), write_timm(tmp_path / "timm")):
        config = load(folder).config
        assert config.id2label == LABELS.id2label
        assert config.label2id == LABELS.label2id
        assert config.num_labels == 4


def test_a_new_head_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = write_vit(tmp_path)
    torch.manual_seed(5)
    first = load(folder, seed=1).classifier.weight
    torch.manual_seed(6)
    again, other = load(folder, seed=1).classifier, load(folder, seed=2).classifier

    assert torch.equal(first, again.weight)
    assert not torch.equal(first, other.weight)
    assert 0.015 < again.weight.std().item() < 0.025
    assert not again.bias.any()


def test_a_head_for_other_labels_of_the_same_number_is_not_kept(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    folder = write_vit(tmp_path, names=("a", "b", "c"))
    stock = AutoModelForImageClassification.from_pretrained(folder).classifier.weight

    assert torch.equal(load(folder, Labels(("a", "b", "c"))).classifier.weight, stock)
    assert not torch.equal(load(folder, Labels(("a", "c", "b"))).classifier.weight, stock)


@pytest.mark.parametrize("library", ["vit", "resnet", "test_vit", "test_resnet"])
def test_a_bfloat16_backbone_keeps_a_float32_head_and_runs_with_and_without_autocast(
    tmp_path: Path, library: str
) -> None:
    if library.startswith("test_"):
        folder = write_timm(tmp_path, library)
    else:
        folder = write_vit(tmp_path) if library == "vit" else write_resnet(tmp_path)
    model = load(folder, dtype=torch.bfloat16)
    facts = read_facts(Model(name=str(folder)))
    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    heads = {name for name in kinds if name.rpartition(".")[0] in facts.head}

    assert {kinds[name] for name in heads} == {torch.float32}
    assert {kind for name, kind in kinds.items() if name not in heads} == {torch.bfloat16}
    adapted = Lora(rank=2).apply(model, facts)
    adapted.train()
    for norm in frozen_norms(adapted):
        norm.eval()
    logits = adapted(pixel_values=pixels()).logits
    logits.sum().backward()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    assert logits.dtype == torch.float32
    assert {weight.dtype for weight in trained} == {torch.float32}
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in trained)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert adapted(pixel_values=pixels()).logits.isfinite().all()


def test_a_half_precision_checkpoint_loads_in_the_precision_asked_for(tmp_path: Path) -> None:
    model = load(write_vit(tmp_path, dtype=torch.float16))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_missing_weight_of_the_backbone_is_an_error_not_a_random_one(tmp_path: Path) -> None:
    edit_weights(write_timm(tmp_path), drop="blocks.1.mlp.fc1.weight")
    with pytest.raises(ModelError) as raised:
        load(tmp_path)
    assert raised.value.message == (
        f"model.name: the checkpoint {str(tmp_path)!r} lacks 1 weights of the backbone: "
        "timm_model.blocks.1.mlp.fc1.weight"
    )
    assert raised.value.hint == "they would be random; use a checkpoint that holds the whole backbone"


def test_a_renamed_weight_is_an_error(tmp_path: Path) -> None:
    edit_weights(write_timm(tmp_path), rename=("blocks.1.mlp.fc1.weight", "blocks.1.mlp.first.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 weights of the backbone: timm_model\.blocks\.1\.mlp\.fc1\.weight"):
        load(tmp_path)


def test_a_weight_of_another_shape_is_an_error(tmp_path: Path) -> None:
    edit_weights(write_timm(tmp_path), reshape="blocks.0.mlp.fc1.bias")
    with pytest.raises(ModelError) as raised:
        load(tmp_path)
    assert raised.value.message == (
        f"model.name: the checkpoint {str(tmp_path)!r} holds 1 weights of another shape: "
        "timm_model.blocks.0.mlp.fc1.bias [96] instead of [192]"
    )
    assert raised.value.hint == "its config.json does not belong to its weights"


def test_weights_that_the_classifier_has_no_place_for_are_left_aside(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = write_timm(tmp_path) / "model.safetensors"
    save_file({**load_file(path), "text_tower.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    assert load(tmp_path)(pixel_values=pixels()).logits.shape == (3, 4)


def test_a_damaged_weights_file_is_an_error(tmp_path: Path) -> None:
    path = write_vit(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError) as raised:
        load(tmp_path)
    assert raised.value.message.startswith(f"model.name: the weights of {str(tmp_path)!r} cannot be read: ")


def test_a_timm_config_that_repeats_its_number_of_classes_loads(tmp_path: Path) -> None:
    model = load(write_timm(tmp_path, repeat_classes=True))
    assert model(pixel_values=pixels()).logits.shape == (3, 4)


@pytest.mark.parametrize("library", ["vit", "test_vit", "test_resnet"])
def test_checkpointing_changes_no_gradient(tmp_path: Path, library: str) -> None:
    folder = write_vit(tmp_path) if library == "vit" else write_timm(tmp_path, library)
    facts = read_facts(Model(name=str(folder)))
    found = []
    for count in (0, len(facts.blocks), 1):
        torch.manual_seed(0)
        model = Lora(rank=2).apply(load(folder), facts)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.1)
        recompute(model, facts.blocks, count)
        model.train()
        kept: list[int] = []

        def pack(each: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(each.nbytes)
            return each

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
            loss = model(pixel_values=pixels()).logits.square().sum()
        loss.backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
        found.append((gradients, sum(kept)))
    (plain, plain_bytes), (saving, saving_bytes), (some, some_bytes) = found
    assert all(gradient is not None for gradient in saving.values())
    torch.testing.assert_close(saving, plain)
    torch.testing.assert_close(some, plain)
    assert saving_bytes < 0.6 * plain_bytes and saving_bytes < some_bytes < plain_bytes


def test_checkpointing_where_there_is_none_is_an_error() -> None:
    from transformers import PoolFormerConfig, PoolFormerForImageClassification

    config = PoolFormerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    with pytest.raises(ModelError, match="PoolFormerForImageClassification does not offer block checkpointing"):
        recompute(PoolFormerForImageClassification(config), (), 1)


def test_the_dropout_of_a_converted_mobilenet_is_mended_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import MobileNetV1Config, MobileNetV1ForImageClassification

    config = MobileNetV1Config(depth_multiplier=0.25, classifier_dropout_prob=0.999)
    MobileNetV1ForImageClassification(config).save_pretrained(tmp_path)
    with caplog.at_level("WARNING"):
        assert load(tmp_path).dropout.p == 0.001
    assert "mobilenet_v1 drops 0.999 of the head's input; 0.001 is used" in caplog.messages


def test_the_fingerprint_is_of_the_weights_not_of_the_files(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    folder = write_vit(tmp_path / "one")
    AutoModelForImageClassification.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    first = fingerprint(Model(name=str(folder)))

    assert len(first) == 64
    assert fingerprint(Model(name=str(tmp_path / "shards"))) == first
    edit_config(folder, note="another config, the same weights")
    assert fingerprint(Model(name=str(folder))) == first
    edit_weights(folder, reshape="classifier.bias")
    assert fingerprint(Model(name=str(folder))) != first


@pytest.mark.real
def test_timm_and_transformers_variants_of_the_same_weights_agree(shared_data: Path) -> None:
    timm, stock = (load(shared_data / "weights" / name, seed=3) for name in ("vit_tiny_timm", "vit_tiny_transformers"))
    images = pixels(224, 2)
    with torch.no_grad():
        features = timm.timm_model.forward_features(images)
        torch.testing.assert_close(features, stock.vit(images).last_hidden_state, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(timm(images).logits, stock(images).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.real
@pytest.mark.parametrize("name", ["vit_tiny_timm", "vit_tiny_transformers", "mobilenetv2_timm"])
def test_the_real_checkpoints_get_a_head_of_their_own(shared_data: Path, name: str) -> None:
    model = load(shared_data / "weights" / name)
    with torch.no_grad():
        assert model(pixel_values=pixels(224, 1)).logits.shape == (1, 4)
    assert model.config.id2label[0] == "n/a"


def test_the_config_of_a_timm_base_with_label_names_says_the_new_labels(tmp_path: Path) -> None:
    """transformers 5.23 prefers `label_names` to id2label, in what it writes and in what it reads."""
    folder = write_timm(tmp_path / "base")
    edit_config(folder, label_names=["old 0", "old 1", "old 2", "old 3", "old 4"])
    for labels in (("n/a", "1", "True"), tuple("abcde")):
        model = load_backbone(Model(name=str(folder)), Labels(labels), dtype=torch.float32, seed=0)
        model.config.save_pretrained(tmp_path / "saved")
        again = AutoConfig.from_pretrained(tmp_path / "saved")
        assert again.id2label == dict(enumerate(labels))
        assert again.num_labels == len(labels)
