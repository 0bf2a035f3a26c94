"""What a model looked at: where the class is decided, on every kind of network, with adapters and quantized bases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification, ConvNextConfig, PreTrainedModel, ResNetConfig

from hf_finetune.adapters import HeadOnly, Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from hf_finetune.report.predicted.overlay import overlay
from hf_finetune.result.classifier import load
from hf_finetune.result.saliency import saliency
from tests.matrix.architectures import TIMM, TRANSFORMERS, write_timm, write_transformers
from tests.result.results import save_result

pytestmark = pytest.mark.e2e


def decided_in_a_quadrant(count: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Noise float32 [count, 3, side, side] with a cross, a frame or stripes in one quadrant; which, and where."""
    random = np.random.default_rng(seed)
    pixels = random.normal(-0.4, 0.15, (count, 3, side, side)).astype(np.float32)
    classes, quadrants = random.integers(0, 3, count), random.integers(0, 4, count)
    line, inner = side // 16, side // 4
    for each, kind, (row, column) in zip(pixels, classes, [divmod(int(at), 2) for at in quadrants], strict=True):
        sign = np.zeros((inner, inner), np.float32)
        if kind == 0:
            sign[inner // 2 - line : inner // 2 + line] = 1
            sign[:, inner // 2 - line : inner // 2 + line] = 1
        elif kind == 1:
            sign[:] = 1
            sign[line:-line, line:-line] = 0
        else:
            sign[:: 2 * line] = 1
        top, left = (place * side // 2 + 2 * line for place in (row, column))
        each[:, top : top + inner, left : left + inner] += 1.3 * sign
    return torch.from_numpy(pixels), torch.from_numpy(classes), quadrants


def starter() -> PreTrainedModel:
    return load_backbone(Model(name="builtin:starter"), Labels(("a", "b", "c")), dtype=torch.float32, seed=0)


def resnet() -> PreTrainedModel:
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], layer_type="basic", num_labels=3)
    return AutoModelForImageClassification.from_config(config)


def convnext() -> PreTrainedModel:
    return AutoModelForImageClassification.from_config(
        ConvNextConfig(hidden_sizes=[16, 32, 48], depths=[1, 1, 2], num_stages=3, image_size=64, num_labels=3)
    )


@pytest.mark.parametrize(("made", "side"), [(starter, 32), (resnet, 64), (convnext, 64)])
def test_the_map_lies_where_the_class_is_decided(made: Callable[[], PreTrainedModel], side: int) -> None:
    torch.manual_seed(0)
    model = made().train()
    pixels, classes, _ = decided_in_a_quadrant(768, side, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(20):
        for start in range(0, len(pixels), 64):
            optimizer.zero_grad()
            logits = model(pixel_values=pixels[start : start + 64]).logits
            loss = nn.functional.cross_entropy(logits, classes[start : start + 64])
            loss.backward()
            optimizer.step()
        if loss.item() < 0.02:
            break
    images, classes, quadrants = decided_in_a_quadrant(48, side, 2)
    with torch.no_grad():
        assert (model.eval()(pixel_values=images).logits.argmax(1) == classes).float().mean() > 0.95
    maps = saliency(model, images)
    assert maps.shape == (48, side, side) and maps.dtype == np.float32
    assert maps.min() >= 0 and np.allclose(maps.max((1, 2)), 1)
    shares = maps.reshape(48, 2, side // 2, 2, side // 2).sum((2, 4)).reshape(48, 4)
    there = shares[np.arange(48), quadrants] / shares.sum(1)
    assert there.mean() > 0.6  # by chance .25
    assert (shares.argmax(1) == quadrants).mean() > 0.85
    # asked for another class, the map is another one
    others = (classes.numpy() + 1) % 3
    assert np.abs(saliency(model, images, outputs=others) - maps).mean() > 0.01


@pytest.mark.parametrize(
    "kind",
    ["vit", "dinov2_with_registers", "convnext", "swin", "resnet", "mobilenet_v2", "vit_tiny_patch16_224",
     "swin_tiny_patch4_window7_224", "resnet18", "cait_xxs24_224"],
)  # fmt: skip
def test_every_kind_of_network_has_a_map(kind: str, tmp_path: Path) -> None:
    side = (TIMM if kind in TIMM else TRANSFORMERS)[kind][0]
    (write_timm if kind in TIMM else write_transformers)(kind, tmp_path / "model", 5)
    base = Model(name=str(tmp_path / "model"))
    model = load_backbone(base, Labels(("a", "b", "c")), dtype=torch.float32, seed=0)
    before = {name: weight.grad for name, weight in model.named_parameters()}
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    maps = saliency(model, pixels, batch=2)
    assert maps.shape == (3, side, side)
    highest = maps.max((1, 2))
    assert np.isfinite(maps).all() and ((highest > 0.99) | (highest == 0)).all() and highest.any()
    assert {name: weight.grad for name, weight in model.named_parameters()} == before  # nothing is accumulated
    assert torch.is_grad_enabled()
    with torch.no_grad():  # where the caller wants no gradients, too
        assert np.array_equal(saliency(model, pixels, batch=2), maps)


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_an_adapter_on_a_quantized_base_has_a_map(quantization: str, tmp_path: Path) -> None:
    folder = save_result(builtin_path("builtin:starter"), Lora(rank=2), tmp_path / "adapter", quantization=quantization)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    classifier = load(folder, device="cpu")
    asked = np.array([0, 1, 2])
    maps = saliency(classifier, pixels, outputs=asked)
    assert maps.shape == (3, 32, 32) and (maps.max((1, 2)) > 0.99).all()
    if quantization != "none":
        plain = save_result(builtin_path("builtin:starter"), Lora(rank=2), tmp_path / "plain")
        exact = saliency(load(plain, device="cpu"), pixels, outputs=asked)
        assert np.corrcoef(exact.ravel(), maps.ravel())[0, 1] > 0.6


def test_no_images_have_no_maps_and_what_is_no_network_of_images_is_refused(tmp_path: Path) -> None:
    classifier = load(save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path / "adapter"))
    assert saliency(classifier, np.zeros((0, 3, 32, 32), np.uint8)).shape == (0, 32, 32)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * 32 * 32, 2)

        def forward(self, pixel_values: torch.Tensor) -> object:
            from transformers.modeling_outputs import ImageClassifierOutput

            return ImageClassifierOutput(logits=self.head(pixel_values.flatten(1)))  # pyright: ignore

    with pytest.raises(ModelError, match=r"Flat has no feature map.*\n  what it looks at"):
        saliency(Flat(), torch.zeros(1, 3, 32, 32))


def test_the_overlay_shows_the_image_and_where_the_map_is() -> None:
    pixels = np.full((3, 28, 28), 100, np.uint8)
    heat = np.zeros((28, 28), np.float32)
    heat[:14, :14] = 1
    drawn = overlay(pixels, heat)
    assert drawn.size == (2 * 224, 224) and drawn.mode == "RGB"
    shown = np.asarray(drawn).astype(int)
    assert (shown[:, :224] == 100).all()
    looked, rest = shown[:112, 224:336], shown[112:, 224:]
    assert (np.ptp(looked, axis=2) > 50).all()  # colour
    assert (np.ptp(rest, axis=2) <= 1).all()  # grey, as it was
