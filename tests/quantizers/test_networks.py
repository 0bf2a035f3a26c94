"""int8 and nf4 on networks that do more than call a Linear with [B, N, C]: maps, weights read from outside, odd widths.

Each is loaded, trained for a step, saved, and loaded again: by us, and by the lines that the card would print.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.adapters import Lora
from hf_finetune.adapters.attach import attach
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.quantized import Linear8bitLt
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Int8, Nf4
from hf_finetune.quantizers.checks import describe_left_out, skip_patterns
from hf_finetune.report.fields import RunReport
from hf_finetune.report.snippet import BASE_PLACE, PLACE, stock_snippet
from hf_finetune.types import BackboneFacts, Machine
from tests.matrix import architectures
from tests.plan.test_plan import FACTS
from tests.report.example import example

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = Labels(("a", "b", "c"))
MACHINE = Machine("cpu", "test", 0, 0, 1, True, 1, 0, 0, "Linux")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 64, "depths": (1, 1), "num_heads": (1, 2)}
READ, WIDTHS = (
    "the network reads its weight itself",
    ("nf4 takes input widths that are multiples of 64 and output widths of 32 everywhere"),
)


@dataclass(frozen=True)
class Network:
    """`fixed`: endings of layers whose weight is read, `odd`: of those that nf4 cannot take; `maps`: [B, H, W, C]."""

    side: int
    arguments: dict[str, Any]
    fixed: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    maps: bool = True


TIMM = {
    "convnext_atto": Network(64, {"dims": (64, 80, 64, 64), "depths": (1, 1, 1, 1), "conv_mlp": False}, (), ("mlp.",)),
    "swinv2_tiny_window8_256": Network(64, SWIN, ("attn.qkv",), ("cpb_mlp.",)),
    "beit_base_patch16_224": Network(32, VIT, ("attn.qkv",), (), False),
    "eva02_tiny_patch14_224": Network(32, VIT, ("attn.qkv",), ("mlp.",), False),
    # Reads a weight's type in its first forward alone.
    "convit_tiny": Network(32, VIT, ("attn.qk",), ("attn.pos_proj",)),
}
FOCAL = {"image_size": 64, "embed_dim": 64, "depths": [1, 1], "hidden_sizes": [64, 128]}
TRANSFORMERS = {
    "focalnet": Network(
        64, {**FOCAL, "focal_levels": [2, 2], "focal_windows": [3, 3]}, (), ("modulation.projection_in",)
    ),
}
CASES = [
    *((Int8(), name) for name in ("convnext_atto", "swinv2_tiny_window8_256", "beit_base_patch16_224", "focalnet")),
    *((Nf4(), name) for name in ("swinv2_tiny_window8_256", "eva02_tiny_patch14_224", "convit_tiny", "focalnet")),
]


def write(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A checkpoint of random weights in `folder`."""
    timm = name in TIMM
    network = TIMM[name] if timm else TRANSFORMERS[name]
    table = architectures.TIMM if timm else architectures.TRANSFORMERS
    monkeypatch.setitem(table, name, (network.side, network.arguments))
    (architectures.write_timm if timm else architectures.write_transformers)(name, folder, 3)
    return network


def take_step(model: nn.Module, pixels: torch.Tensor) -> None:
    model.train()
    for norm in frozen_norms(model):
        norm.eval()
    nn.functional.cross_entropy(model(pixel_values=pixels).logits, torch.tensor([0, 1])).backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                assert weight.grad is not None
                assert weight.grad.isfinite().all()
                weight.sub_(0.01 * weight.grad / weight.grad.norm().clamp(min=1e-6))
    model.eval()


def save(model: Any, base: Path, folder: Path) -> None:
    """As a result is saved: the adapter, and the labels beside it."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    config = model.get_base_model().config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, default=str))
    if (base / "preprocessor_config.json").is_file():
        shutil.copy(base / "preprocessor_config.json", folder)


def report_of(base: Path, quantizer: Int8 | Nf4, facts: BackboneFacts, config: dict[str, Any]) -> RunReport:
    report = example(
        list(LABELS.names),
        model=str(base),
        overrides=(f"quantization.kind={quantizer.kind}",),
        quantization_config=config,
    )
    maps = quantizer.kind == "int8" and bool(facts.mapped_linears)
    return replace(report, model={**report.model, "quantized_maps": maps})


def ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(each in f"{name}." for each in endings)


@pytest.mark.parametrize(("quantizer", "name"), CASES, ids=[f"{each.kind}-{name}" for each, name in CASES])
def test_it_answers_trains_and_is_loaded_by_us_and_by_the_cards_lines(
    quantizer: Int8 | Nf4, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = write(name, tmp_path / "base", monkeypatch)
    model = Model(name=str(tmp_path / "base"))
    facts = read_facts(model, num_labels=3)
    left_out = quantizer.left_out(facts)
    assert facts.fixed_linears == {each: READ for each in facts.linears if ends(each, network.fixed or ("none",))}
    assert bool(facts.mapped_linears) == network.maps
    odd = {each for each, why in left_out.items() if why == WIDTHS}
    assert bool(odd) == (quantizer.kind == "nf4" and bool(network.odd))
    assert all(ends(each, network.odd) for each in odd)
    quantizer.check(facts, MACHINE)
    config = quantizer.config(facts.head, skip_patterns(left_out, facts.linears))

    def load() -> nn.Module:
        return load_backbone(
            model, LABELS, dtype=torch.float32, seed=0, quantization_config=config, device_map={"": "cpu"}
        )

    base = load()
    plain = {each for each in facts.linears if type(base.get_submodule(each)) is nn.Linear}
    assert plain == set(left_out)
    pixels = torch.randn(2, 3, network.side, network.side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = load_backbone(model, LABELS, dtype=torch.float32, seed=0)(pixel_values=pixels).logits
        error = (base(pixel_values=pixels).logits - whole).norm() / whole.norm()
    assert 0 < error < (0.1 if quantizer.kind == "int8" else 0.5)

    adapted = Lora(rank=2).apply(base, facts)  # pyright: ignore[reportArgumentType]
    take_step(adapted, pixels)
    save(adapted, tmp_path / "base", tmp_path / "adapter")
    code = stock_snippet(report_of(tmp_path / "base", quantizer, facts, config.to_diff_dict()))
    code = code.replace(PLACE, str(tmp_path / "adapter")).replace(BASE_PLACE, str(tmp_path / "base"))
    names: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), names)
    with torch.no_grad():
        wanted = adapted(pixel_values=pixels).logits
        again = attach(load(), tmp_path / "adapter")(pixel_values=pixels).logits  # pyright: ignore[reportArgumentType]
        stock = names["model"](pixel_values=pixels).logits
    spread = float(wanted.max() - wanted.min())
    # Weights from a file lie otherwise in memory, and random networks make much of a last digit.
    torch.testing.assert_close(again, wanted, rtol=0, atol=0.01 * spread)
    # Stock code repacks 4-bit weights for a bfloat16 kernel where the CPU has one.
    torch.testing.assert_close(stock, wanted, rtol=0, atol=(0.01 if quantizer.kind == "int8" else 0.1) * spread)


@pytest.mark.parametrize("shape", [(2, 5, 7, 64), (1, 2, 3, 4, 64), (2, 64, 3, 64)])
@pytest.mark.parametrize("largest", [1.0, 20.0])
def test_maps_are_multiplied_as_the_same_rows_are(shape: tuple[int, ...], largest: float) -> None:
    """20 is beyond the threshold of 6 at which LLM.int8 multiplies a column apart."""
    from bitsandbytes.nn.modules import Int8Params

    torch.manual_seed(0)
    layer = Linear8bitLt(64, 32, has_fp16_weights=False, threshold=6.0)
    weight, bias = torch.randn(32, 64), torch.randn(32)
    quantized: Any = Int8Params(weight, requires_grad=False)
    layer.weight = quantized.to("cpu")
    layer.bias = nn.Parameter(bias)
    layer.eval()
    x = torch.randn(shape)
    x[..., 3] *= largest
    with torch.no_grad():
        rows = layer(x.reshape(1, -1, 64))
        torch.testing.assert_close(layer(x), rows.reshape(*shape[:-1], 32), rtol=0, atol=0)
        exact = nn.functional.linear(x, weight, bias)
        assert float((layer(x) - exact).norm() / exact.norm()) < 0.02


def test_one_expression_names_a_layer_of_every_block_and_no_other_layer() -> None:
    every = [f"stages.{stage}.blocks.{block}.{part}" for stage in (0, 1) for block in (0, 1, 10) for part in ("a", "b")]
    assert skip_patterns([each for each in every if each.endswith("a")], every) == [r"stages\.\d+\.blocks\.\d+\.a"]
    assert skip_patterns([each for each in every if "stages.1" in each], every) == [
        r"stages\.1\.blocks\.\d+\.a",
        r"stages\.1\.blocks\.\d+\.b",
    ]
    assert skip_patterns(["stages.1.blocks.10.b"], every) == [r"stages\.1\.blocks\.10\.b"]
    assert skip_patterns(["head.0", "head.1"]) == [r"head\.0", r"head\.1"]


def test_what_is_left_out_is_named_and_counted() -> None:
    linears = {f"blocks.{block}.{part}": (64, 64) for block in range(12) for part in ("qkv", "proj")}
    facts = replace(FACTS, linears=linears, fixed_linears={f"blocks.{block}.qkv": READ for block in range(12)})
    assert describe_left_out("int8", facts, Int8().left_out(facts)) == (
        "quantization.kind: int8 leaves 12 of 24 Linear layers (50.0% of their weights) in floating point: 12 "
        "(blocks.*.qkv): the network reads its weight itself."
    )
    assert describe_left_out("int8", FACTS, Int8().left_out(FACTS)) is None
    # 12 layers of 64 x 64 at one byte; everything else at four.
    assert Int8().weight_bytes(facts) == 12 * 64 * 64 + 4 * (facts.parameters - 12 * 64 * 64)


def test_a_network_of_odd_widths_alone_is_refused_in_nf4_and_taken_in_int8() -> None:
    facts = replace(FACTS, linears={"blocks.0.fc1": (80, 64), "blocks.0.fc2": (64, 131)})
    Int8().check(facts, MACHINE)
    with pytest.raises(ModelError) as raised:
        Nf4().check(facts, replace(MACHINE, device="cuda"))
    assert raised.value.message == (
        "quantization.kind: nf4 can convert none of the 2 Linear layers of 'vit' (ViT): 2 (blocks.*.fc1, blocks.*.fc2)"
        f": {WIDTHS}"
    )
    assert raised.value.hint == "set quantization.kind=none"
