"""DoRA where filters are zero, and in types that round: what is left out, and that a run's checks stand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_finetune.adapters import Lora
from hf_finetune.adapters.dora import low_rank_off
from hf_finetune.adapters.trained import trained_module
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.cli import main
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Int8
from hf_finetune.types import BackboneFacts
from tests.backbones.small import write_timm, write_vit

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = Labels(("a", "b"))
ZEROED = ("timm_model.layer1.0.conv2", "timm_model.layer3.0.conv1")


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, BackboneFacts]:
    model = Model(name=str(folder))
    return load_backbone(model, LABELS, dtype=dtype, seed=0), read_facts(model, 2)


def write_cnn(folder: Path, zeroed: Iterable[str] = ()) -> Path:
    """A small ResNet, one filter of each module in `zeroed` all zeros, as pruning leaves it."""
    from safetensors.torch import load_file, save_file

    path = write_timm(folder, "test_resnet") / "model.safetensors"
    tensors = load_file(path)
    for name in zeroed:
        tensors[f"{name.removeprefix('timm_model.')}.weight"][3] = 0
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_with_a_filter_of_zeros_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: torch.dtype
) -> None:
    base, facts = load(write_cnn(tmp_path, ZEROED), dtype)
    adapted = Lora(rank=2, dora=True).apply(base, facts)  # pyright: ignore[reportArgumentType]
    holders = {name.partition(".lora_A")[0] for name, _ in adapted.named_parameters() if ".lora_A" in name}
    wanted = {f"base_model.model.{name}" for name in facts.module_shapes if name not in ZEROED}
    assert holders == wanted
    assert (
        f"adapter.dora: 2 of {len(facts.module_shapes)} modules have filters that are zero, by whose length DoRA would "
        f"divide; these are not adapted: {', '.join(ZEROED)}."
    ) in caplog.text
    adapted.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        adapted(pixel_values=torch.randn(4, 3, 32, 32)).logits.float().square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in adapted.parameters() if weight.grad is not None)


def test_lora_without_dora_adapts_them(tmp_path: Path) -> None:
    base, facts = load(write_cnn(tmp_path, ZEROED))
    adapted = Lora(rank=2).apply(base, facts)  # pyright: ignore[reportArgumentType]
    holders = [name for name, _ in adapted.named_parameters() if ".lora_A" in name]
    assert len(holders) == len(facts.module_shapes)


def test_where_no_module_is_left_the_run_is_refused(tmp_path: Path) -> None:
    base, facts = load(write_cnn(tmp_path, ZEROED))
    with pytest.raises(ModelError) as raised:
        Lora(dora=True, targets=("layer1.0.conv2",)).apply(base, facts)  # pyright: ignore[reportArgumentType]
    assert raised.value.message == (
        "adapter.dora: 1 of 1 modules have filters that are zero, and DoRA divides by their length"
    )
    assert raised.value.hint == "set adapter.dora=false"


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_with_the_low_rank_off_a_model_answers_as_its_base_but_for_the_trained_head(tmp_path: Path, kind: str) -> None:
    folder = write_cnn(tmp_path) if kind == "cnn" else write_vit(tmp_path)
    base, facts = load(folder)
    plain = logits(base)
    adapted = Lora(rank=2, dora=True).apply(base, facts)  # pyright: ignore[reportArgumentType]
    trains = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
        trained_module(adapted, facts.head[0]).get_parameter("bias").add_(1.0)
    on = logits(adapted)
    with low_rank_off(adapted):
        torch.testing.assert_close(logits(adapted), plain + 1, rtol=0, atol=1e-6)
    assert torch.equal(logits(adapted), on)
    assert float((on - plain - 1).abs().max()) > 1e-3
    assert {name for name, weight in adapted.named_parameters() if weight.requires_grad} == trains


def test_int8_layers_keep_their_scales_from_one_pass_to_the_next(tmp_path: Path) -> None:
    """A result from a GPU is predicted with on a CPU, where peft makes each weight anew."""
    model = Model(name=str(write_vit(tmp_path)))
    facts = read_facts(model, 2)
    config = Int8().config(facts.head)
    base = load_backbone(model, LABELS, dtype=torch.float32, seed=0, quantization_config=config, device_map={"": "cpu"})
    adapted = Lora(rank=2, dora=True).apply(base, facts).eval()
    assert torch.equal(logits(adapted), logits(adapted))


@pytest.mark.e2e
@pytest.mark.parametrize("zeroed", [(), ZEROED], ids=["none", "zeros"])
def test_a_probe_with_dora_on_a_cnn_in_bfloat16_is_kept(
    tmp_path: Path, zeroed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "model": {"name": str(write_cnn(tmp_path / "base", zeroed))},
        "data": {"name": "builtin:digits", "cache_dir": str(tmp_path / "cache")},
        "adapter": {"dora": True},
        "budget": {"time": 0},
        "train": {"precision": "bf16", "decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["train", str(tmp_path / "recipe.yaml")]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [rung["rung"] for rung in report["rungs"]] == ["probe"]
    targets = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert set(targets).isdisjoint(zeroed)


@pytest.mark.real
def test_the_two_modules_of_the_real_mobilenet_that_were_pruned(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, facts = load(shared_data / "weights" / "mobilenetv2_timm")
    Lora(rank=2, dora=True).apply(base, facts)  # pyright: ignore[reportArgumentType]
    assert "not adapted: timm_model.blocks.1.1.conv_pw, timm_model.blocks.4.1.conv_pw." in caplog.text
