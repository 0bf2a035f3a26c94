"""LoRA over int8 and nf4 bases in its training form: PEFT's own gradients, fewer bytes kept, integer products close."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from hf_finetune.adapters import Lora
from hf_finetune.adapters.low_memory import covers, low_memory_lora, training_forms
from hf_finetune.arithmetic.integer import IntegerWeight, cpu_instructions
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.quantized import Linear8bitLt, compute_in, stock_arithmetic
from hf_finetune.backbones.recompute import recomputed
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Int8, Nf4
from hf_finetune.types import Compute, Decision, Plan
from tests.backbones.small import write_timm, write_vit
from tests.training.rows import tiny_plan

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = Labels(("a", "b", "c"))
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0}
needs_instructions = pytest.mark.skipif(cpu_instructions() is None, reason="the CPU has no 8-bit products")


def adapted(
    model: Model, quantizer: Int8 | Nf4 | None, compute: Compute, dtype: torch.dtype, **adapter: Any
) -> nn.Module:
    """A backbone with LoRA whose factors are not zero."""
    facts = read_facts(model, len(LABELS.names))
    backbone = load_backbone(
        model,
        LABELS,
        dtype=dtype,
        quantization_config=quantizer.config(facts.head) if quantizer else None,
        device_map={"": "cpu"} if quantizer else None,
        seed=0,
        plain_attention=True,
    )
    compute_in(backbone, compute)
    torch.manual_seed(0)
    lora: nn.Module = Lora.model_validate({"kind": "lora", **adapter}).apply(backbone, facts)
    for name, weight in lora.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    return lora.train()


def plan(precision: str) -> Plan:
    """Of a run whose memory counts."""
    return replace(tiny_plan(), precision=Decision(precision, "test"), activations=Decision("made again", "test"))


def gradients(model: nn.Module, pixels: Tensor) -> tuple[dict[str, Tensor], int]:
    """Of the factors and the head, and the bytes that the forward pass kept."""
    own = {weight.data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(pixel_values=pixels).logits.float()
    size = sum(kept.values())
    logits.square().sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}, size


def cosine(one: Tensor, other: Tensor) -> float:
    return float(functional.cosine_similarity(one.float().flatten(), other.float().flatten(), 0))


@pytest.mark.parametrize(
    ("quantizer", "compute", "least"),
    [
        (Nf4(), "auto", 0.9999),
        (Int8(), "dequantized", 0.9999),
        pytest.param(Int8(), "integer", 0.99, marks=needs_instructions),
    ],
    ids=["nf4", "dequantized", "integer"],
)
@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_gradients_are_those_of_the_dequantized_weights_and_less_is_kept(
    library: str, quantizer: Int8 | Nf4, compute: Compute, least: float, tmp_path: Path
) -> None:
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **VIT) if library == "timm" else write_vit(tmp_path)
    model = adapted(Model(name=str(folder)), quantizer, compute, torch.float32)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with stock_arithmetic(model):  # in train mode it is of dequantized weights, too
        expected, usual = gradients(model, pixels)
    assert covers(model)
    with training_forms(model, plan("fp32")) as autocast:
        assert not autocast
        found, size = gradients(model, pixels)
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        assert cosine(grad, expected[name]) > least, name
    assert size < (0.65 if compute == "integer" else 0.8) * usual


def test_layers_without_an_adapter_pass_the_gradient_on(tmp_path: Path) -> None:
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **VIT)
    model = adapted(Model(name=str(folder)), Int8(), "dequantized", torch.float32, targets=["attention"])
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with stock_arithmetic(model):
        expected, _ = gradients(model, pixels)
    found, _ = gradients(model, pixels)
    for name, grad in found.items():
        assert cosine(grad, expected[name]) > 0.9999, name


def test_stock_arithmetic_is_for_a_while(tmp_path: Path) -> None:
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **VIT)
    model = adapted(Model(name=str(folder)), Int8(), "dequantized", torch.bfloat16).eval()
    layers = [module for module in model.modules() if isinstance(module, Linear8bitLt)]
    assert compute_in(model, "llm_int8") == {"llm_int8": len(layers)}
    assert compute_in(model, "dequantized") == {"dequantized": len(layers)}
    with stock_arithmetic(model):
        assert {layer.compute for layer in layers} == {"llm_int8"}
    assert {layer.compute for layer in layers} == {"dequantized"}


def test_integers_that_the_machine_lacks_are_dequantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_finetune.arithmetic import integer

    monkeypatch.setattr(integer, "cpu_instructions", lambda: None)
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **VIT)
    model = adapted(Model(name=str(folder)), Int8(), "integer", torch.float32)
    assert {module.compute for module in model.modules() if isinstance(module, Linear8bitLt)} == {"dequantized"}


@pytest.mark.parametrize(
    ("quantizer", "compute", "most"),
    [
        (None, "auto", 11),
        (Nf4(), "auto", 11),
        (Int8(), "dequantized", 11),
        pytest.param(Int8(), "integer", 8, marks=needs_instructions),
    ],
    ids=["none", "nf4", "dequantized", "integer"],
)
def test_a_block_of_a_vit_keeps_so_many_maps(
    quantizer: Int8 | Nf4 | None, compute: Compute, most: float, tmp_path: Path
) -> None:
    """In maps of tokens × width in bfloat16; PEFT keeps 19 to 28."""
    sizes = []
    for depth in (1, 2):
        folder = write_timm(tmp_path / str(depth), "vit_small_patch16_224", depth=depth)
        model = adapted(Model(name=str(folder)), quantizer, compute, torch.bfloat16)
        with training_forms(model, plan("bf16")):
            sizes.append(gradients(model, torch.randn(2, 3, 224, 224))[1])
    assert sizes[1] - sizes[0] < most * 2 * 197 * 384 * 2


@needs_instructions
def test_integer_products_of_real_weights_and_photos_are_close_in_every_layer(shared_data: Path) -> None:
    model = adapted(Model(name=str(shared_data / "weights/vit_tiny_timm")), Int8(), "dequantized", torch.bfloat16)
    seen: list[tuple[str, Any, Tensor, list[Tensor]]] = []

    def watch(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            grads: list[Tensor] = []
            output.register_hook(grads.append)
            seen.append((name, module.base_layer, inputs[0].detach().flatten(0, 1), grads))

        return hook

    for name, module in model.named_modules():
        if isinstance(getattr(module, "base_layer", None), Linear8bitLt):
            module.register_forward_hook(watch(name))
    files = sorted((shared_data / "datasets/trashnet/train").glob("*/*"))[::300]
    photos = [Image.open(file).convert("RGB").resize((224, 224)) for file in files]
    pixels = torch.stack([torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8) for photo in photos])
    pixels = pixels.view(-1, 224, 224, 3).permute(0, 3, 1, 2) / 127.5 - 1
    with low_memory_lora(model):
        functional.cross_entropy(model(pixel_values=pixels).logits.float(), torch.arange(len(pixels)) % 3).backward()
    assert len(seen) == 48
    for name, layer, x, (grad,) in seen:
        weight = layer.state.CB.float() * (layer.state.SCB / 127)[:, None]
        own = IntegerWeight(layer.state.CB, layer.state.SCB / 127)
        grad = grad.flatten(0, 1)
        assert cosine(own.forward(x, None)[0], x.float() @ weight.T) > 0.999, name
        assert cosine(own.backward(grad), grad.float() @ weight) > 0.99, name


@pytest.mark.parametrize(
    ("quantizer", "compute"),
    [(None, "auto"), (Nf4(), "auto"), pytest.param(Int8(), "integer", marks=needs_instructions)],
    ids=["plain", "nf4", "integer"],
)
@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_recomputed_blocks_give_the_same_gradients_in_these_forms(
    library: str, quantizer: Int8 | Nf4 | None, compute: Compute, tmp_path: Path
) -> None:
    """torch takes function modes away in backward, where blocks are recomputed: they must attend as they did before."""
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **VIT) if library == "timm" else write_vit(tmp_path)
    named = Model(name=str(folder))
    model = adapted(named, quantizer, compute, torch.float32)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with training_forms(model, plan("fp32")):
        expected, usual = gradients(model, pixels)
        with recomputed(model, read_facts(named).blocks, 2):
            found, size = gradients(model, pixels)
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], msg=name)
    assert size < usual
