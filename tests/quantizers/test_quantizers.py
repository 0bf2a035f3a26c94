"""int8 and nf4 on the CPU: the head kept out, a step of LoRA, the refusals, and the bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.adapters.attach import attach
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import MachineError, ModelError
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Int8, Nf4, Unquantized
from hf_finetune.types import Machine
from tests.backbones.small import write_timm, write_vit

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = Labels(("a", "b", "c"))
MACHINE = Machine("cpu", "test", 0, 0, 1, True, 1, 0, 0, "Linux")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


def write(library: str, folder: Path) -> Model:
    if library == "timm":
        return Model(name=str(write_timm(folder, "vit_tiny_patch16_224", **VIT)))
    return Model(name=str(write_vit(folder)))


def load(model: Model, quantizer: Int8 | Nf4, head: tuple[str, ...], seed: int = 0) -> nn.Module:
    return load_backbone(
        model,
        LABELS,
        dtype=torch.bfloat16,
        quantization_config=quantizer.config(head),
        device_map={"": "cpu"},
        seed=seed,
    )


def take_step(model: nn.Module, side: int) -> None:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(pixel_values=pixels).logits.float(), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in trained)
    optimizer.step()


@pytest.mark.parametrize("quantizer", [Int8(), Nf4()], ids=["int8", "nf4"])
@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_the_backbone_is_quantized_the_head_is_not_and_lora_trains_and_reloads(
    tmp_path: Path, library: str, quantizer: Int8 | Nf4
) -> None:
    model = write(library, tmp_path / "base")
    facts = read_facts(model, num_labels=3)
    base = load(model, quantizer, facts.head)
    kinds = {type(base.get_submodule(name)).__name__ for names in facts.targets.values() for name in names}
    head = base.get_submodule(facts.head[0])

    assert kinds == {"Linear8bitLt" if quantizer.kind == "int8" else "Linear4bit"}
    assert type(head) is nn.Linear
    assert head.weight.dtype == torch.float32
    adapted = Lora(rank=2).apply(base, facts)
    frozen = {name: weight.clone() for name, weight in adapted.named_parameters() if not weight.requires_grad}
    take_step(adapted.train(), 32)
    for name, weight in adapted.named_parameters():
        assert name not in frozen or torch.equal(weight, frozen[name])
    adapted.eval().save_pretrained(tmp_path / "adapter")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        again = attach(load(model, quantizer, facts.head, seed=5), tmp_path / "adapter")
        wanted = adapted(pixel_values=pixels).logits
        other = load(model, quantizer, facts.head, seed=5)(pixel_values=pixels).logits
        # Sums in bfloat16, of three digits: weights from a file lie otherwise in memory, and a kernel may add them in
        # another order. Without the trained head the logits are others altogether.
        near = 0.02 * float(wanted.abs().max())
        torch.testing.assert_close(again(pixel_values=pixels).logits, wanted, rtol=0, atol=near)
        assert float((other - wanted).abs().max()) > 10 * near


@pytest.mark.parametrize("quantizer", [Int8(), Nf4()], ids=["int8", "nf4"])
def test_a_quantized_backbone_keeps_close_to_the_whole_one(tmp_path: Path, quantizer: Int8 | Nf4) -> None:
    model = write("timm", tmp_path)
    facts = read_facts(model, num_labels=3)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = load_backbone(model, LABELS, dtype=torch.float32, seed=0)(pixel_values=pixels).logits
        small = load(model, quantizer, facts.head)(pixel_values=pixels).logits
    error = (small - whole).norm() / whole.norm()
    assert 0 < error < (0.05 if quantizer.kind == "int8" else 0.25)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_cpu_without_bfloat16_multiplies_nf4_in_the_inputs_own_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr("hf_finetune.backbones.quantized.cpu_has_bf16", lambda: bf16)
    model = write("timm", tmp_path)
    facts = read_facts(model, num_labels=3)
    config = Nf4().config(facts.head)
    base = load_backbone(model, LABELS, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"}, seed=0)
    layer: Any = base.get_submodule(next(iter(facts.targets["attention"])))
    x = torch.randn(5, layer.in_features)
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    with torch.no_grad():
        error = (layer(x) - nn.functional.linear(x, weight, layer.bias)).abs().max()
    assert float(error) > 1e-4 if bf16 else float(error) < 1e-5


def test_weight_bytes_are_those_of_the_loaded_model(tmp_path: Path) -> None:
    model = write("transformers", tmp_path)
    facts = read_facts(model, num_labels=3)

    def resident(loaded: nn.Module) -> int:
        sizes = sum(weight.nbytes for weight in loaded.parameters())
        states = [getattr(weight, "quant_state", None) for weight in loaded.parameters()]
        return sizes + sum(state.absmax.nbytes for state in states if state is not None)

    whole = resident(load_backbone(model, LABELS, dtype=torch.float32, seed=0))
    assert Unquantized().weight_bytes(facts) == whole
    assert Unquantized().weight_bytes(facts, bytes_per_weight=2) == whole // 2
    # The head stays float32 among bfloat16: 2 bytes a weight that the estimate leaves out.
    head = 3 * 65 * 2
    assert Int8().weight_bytes(facts, bytes_per_weight=2) + head == resident(load(model, Int8(), facts.head))
    assert Nf4().weight_bytes(facts, bytes_per_weight=2) + head == resident(load(model, Nf4(), facts.head))


@pytest.mark.parametrize("quantizer", [Int8(), Nf4()], ids=["int8", "nf4"])
def test_a_cnn_has_nothing_to_quantize_and_is_refused(tmp_path: Path, quantizer: Int8 | Nf4) -> None:
    facts = read_facts(Model(name=str(write_timm(tmp_path, "test_resnet"))))
    with pytest.raises(ModelError) as raised:
        quantizer.check(facts, MACHINE)
    assert raised.value.message == (
        f"quantization.kind: {quantizer.kind} converts Linear layers only, and {facts.name!r} (test_resnet) "
        "has none outside its head; its weights are in Conv2d, BatchNorm2d, Linear"
    )
    assert raised.value.hint == "set quantization.kind=none"
    Unquantized().check(facts, MACHINE)


def test_a_vit_is_accepted_on_a_cpu_and_refused_on_mps(tmp_path: Path) -> None:
    facts = read_facts(Model(name=str(write_vit(tmp_path))))
    Int8().check(facts, MACHINE)
    with pytest.raises(MachineError, match=r"quantization\.kind: nf4 has no backend for mps"):
        Nf4().check(facts, replace(MACHINE, device="mps"))


def test_a_step_in_int8_does_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = write("transformers", tmp_path)
    facts = read_facts(model, num_labels=3)
    with caplog.at_level("WARNING"):
        take_step(Lora(rank=2).apply(load(model, Int8(), facts.head), facts).train(), 32)
    assert [record.message for record in caplog.records if record.name.startswith("bitsandbytes.autograd")] == []


def test_a_head_that_was_not_left_out_is_noticed(tmp_path: Path) -> None:
    model = write("transformers", tmp_path)
    with pytest.raises(ModelError) as raised:
        load(model, Int8(), ("no_such_module",))
    assert raised.value.message == f"model.name: quantizing {model.name!r} converted its head, classifier"


def test_full_fine_tuning_of_a_quantized_backbone_is_refused_and_head_only_works(tmp_path: Path) -> None:
    model = write("transformers", tmp_path)
    facts = read_facts(model, num_labels=3)
    base = load(model, Int8(), facts.head)
    with pytest.raises(ModelError) as raised:
        Full().apply(base, facts)
    assert raised.value.message == (f"adapter.kind: full trains every weight of {model.name!r}, but they are quantized")
    take_step(HeadOnly().apply(base, facts).train(), 32)


def test_no_quantizer_gives_no_config() -> None:
    assert Unquantized().config(("head",)) is None


@pytest.mark.e2e
@pytest.mark.real
@pytest.mark.parametrize("quantizer", [Int8(), Nf4()], ids=["int8", "nf4"])
@pytest.mark.parametrize("name", ["vit_tiny_timm", "vit_tiny_transformers"])
def test_lora_takes_a_step_on_the_real_weights_quantized(shared_data: Path, name: str, quantizer: Int8 | Nf4) -> None:
    model = Model(name=str(shared_data / "weights" / name))
    facts = read_facts(model, num_labels=3)
    adapted = Lora(rank=4).apply(load(model, quantizer, facts.head), facts).train()
    before = {name: weight.clone() for name, weight in adapted.named_parameters() if "lora_B" in name}
    take_step(adapted, 224)
    changed = {name for name, weight in before.items() if not torch.equal(weight, adapted.get_parameter(name))}
    assert changed == set(before)
