"""A recipe starts from an adapter of others: each tensor finds its place; the model says what stock PEFT says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

from hf_finetune.adapters import Lora
from hf_finetune.adapters.starting.start import Start
from hf_finetune.adapters.trained import trained_module
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.labels import Labels
from hf_finetune.pipeline.model import put_start_on
from hf_finetune.pipeline.prepare import follow_start
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import BackboneFacts
from tests.adapters.starting.foreign import edit_weights, former, give_labels, rename, save_foreign, stock_logits
from tests.backbones.small import write_processor, write_timm, write_vit

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]
LABELS = Labels(("x", "y", "z"))


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def started(base: Path, adapter: Path, **settings: Any) -> tuple[torch.nn.Module, Start, Lora, BackboneFacts]:
    """The wrapped model before any training, as a run makes it."""
    recipe = load_recipe({"model": {"name": str(base)}, "adapter": {"from": str(adapter), **settings}})
    facts = read_facts(recipe.model, len(LABELS.names))
    recipe, start = follow_start(recipe, facts, LABELS.names)
    assert start is not None
    assert isinstance(recipe.adapter, Lora)
    model = load_backbone(recipe.model, LABELS, dtype=torch.float32, seed=0)
    wrapped = recipe.adapter.apply(model, facts)
    put_start_on(start, wrapped, recipe)
    return wrapped.eval(), start, recipe.adapter, facts


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(pixel_values=pixels()).logits


def test_the_start_says_what_stock_peft_says(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter"), LABELS.names)
    model, start, lora, facts = started(base, adapter)
    torch.testing.assert_close(logits(model), stock_logits(base, adapter, pixels()))
    assert (lora.rank, lora.alpha, lora.rslora, lora.dora) == (4, 12, False, False)
    assert lora.targets == ("attention.q_proj", "attention.v_proj")
    assert start.keeps_head
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert trained == lora.trainable_parameters(facts, 3) == 2 * 2 * 4 * (64 + 64) + 3 * 65


def build(kind: str, folder: Path, **arguments: Any) -> Path:
    config = AutoConfig.for_model(kind, num_labels=5, **arguments)
    torch.manual_seed(0)
    AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    write_processor(folder)
    return folder


_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {**_TINY, "patch_size": 8},
    "vit_msn": {**_TINY, "patch_size": 8},
    "deit": {**_TINY, "patch_size": 8, "architectures": ["DeiTForImageClassification"]},
    "beit": {**_TINY, "patch_size": 8},
    "dinov2": {**_TINY, "patch_size": 8, "mlp_ratio": 2},
    "swin": {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]},
}


@pytest.mark.parametrize("targets", [["query", "value"], ["query", "key", "value", "dense"]], ids=len)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_of_transformers_4_are_understood(tmp_path: Path, family: str, targets: list[str]) -> None:
    arguments = FAMILIES[family]
    base = build(family, tmp_path / "base", **arguments)
    dense = ["o_proj"] if family == "dinov2" else ["o_proj", "fc1", "fc2"]
    now = ["q_proj", "v_proj"] if len(targets) == 2 else ["q_proj", "k_proj", "v_proj", *dense]
    adapter = give_labels(save_foreign(base, tmp_path / "adapter", targets=now), LABELS.names)
    expected = stock_logits(base, adapter, pixels())
    rename(adapter, former, targets)
    model, start, lora, _ = started(base, adapter)
    torch.testing.assert_close(logits(model), expected)
    assert any("query" in key for key in start.layout.low_rank)
    assert not any("query" in key for key in start.layout.low_rank.values())
    assert len(lora.targets or ()) == len(now)


@pytest.mark.parametrize("raw", [False, True], ids=["wrapped", "raw"])
def test_a_timm_adapter_with_and_without_the_wrappers_prefix(tmp_path: Path, raw: bool) -> None:
    base = write_timm(tmp_path / "base")
    adapter = save_foreign(base, tmp_path / "adapter", targets=["qkv", "fc1"], head=["timm_model.head"])
    config = AutoConfig.from_pretrained(base)
    config.id2label = dict(enumerate(LABELS.names))
    config.save_pretrained(adapter)  # timm's wrapper writes a list, as a result of ours on a timm base has it
    assert "id2label" not in (adapter / "config.json").read_text("utf-8")
    expected = stock_logits(base, adapter, pixels())
    if raw:
        rename(adapter, lambda name: name.removeprefix("timm_model."), ["qkv", "fc1"])
    model, start, _, _ = started(base, adapter)
    torch.testing.assert_close(logits(model), expected)
    assert start.keeps_head


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"targets": r".*layers\.1\.attention\.(q|v)_proj"},
        {"layers_to_transform": [1]},
        {"targets": "all-linear"},
        {"lora_dropout": 0.3},
    ],
    ids=str,
)
def test_whatever_a_plain_lora_can_be_is_followed(tmp_path: Path, options: dict[str, Any]) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter", **options), LABELS.names)
    torch.testing.assert_close(logits(started(base, adapter)[0]), stock_logits(base, adapter, pixels()))


def test_a_dora_is_followed_where_the_recipe_says_so(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter", use_dora=True), LABELS.names)
    torch.testing.assert_close(logits(started(base, adapter, dora=True)[0]), stock_logits(base, adapter, pixels()))


def test_a_half_precision_adapter_trains_in_float32(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter"), LABELS.names)
    edit_weights(adapter, lambda all_: all_.update({key: tensor.bfloat16() for key, tensor in all_.items()}))
    model, *_ = started(base, adapter)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    torch.testing.assert_close(logits(model), stock_logits(base, adapter, pixels()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (("z", "y", "x"), 3, "its labels are not the run's"),
        (("x", "y"), 2, "its labels are not the run's"),
        (None, 3, "it does not say which labels its head answers"),
        (("x", "y", "z"), 2, "its head is of another shape"),
    ],
)
def test_a_head_for_other_labels_is_left_behind(
    tmp_path: Path, labels: tuple[str, ...] | None, classes: int, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = write_vit(tmp_path / "base")
    adapter = save_foreign(base, tmp_path / "adapter", classes=classes)
    if labels is not None:
        give_labels(adapter, labels)
    with caplog.at_level("INFO", "hf_finetune"):
        model, start, *_ = started(base, adapter)
    assert f"Starting from {adapter} (rank 4); a fresh head: {note}." in caplog.text
    fresh = load_backbone(load_recipe({"model": {"name": str(base)}}).model, LABELS, dtype=torch.float32, seed=0)
    torch.testing.assert_close(trained_module(model, "classifier").weight, fresh.get_parameter("classifier.weight"))
    assert not start.keeps_head
    with torch.no_grad():
        assert not torch.allclose(logits(model), fresh(pixel_values=pixels()).logits)


def test_an_adapter_without_a_head_starts_with_a_fresh_one(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter", head=()), LABELS.names)
    _, start, *_ = started(base, adapter)
    assert (start.keeps_head, start.head_note) == (False, "it holds no head")


def test_the_config_is_not_changed_by_reading(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base")
    adapter = give_labels(save_foreign(base, tmp_path / "adapter"), LABELS.names)
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    one, two = started(base, adapter)[1], started(base, adapter)[1]
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before
    assert one.digest == two.digest
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 13}))
    assert started(base, adapter)[1].digest != one.digest
