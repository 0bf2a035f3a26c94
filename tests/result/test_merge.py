"""A result as one whole model: what stock transformers, alone in a process of its own, makes of the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hf_finetune
from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.backbones.quantized import stock_arithmetic
from hf_finetune.machine.detect import detect
from hf_finetune.result.load import load_result
from hf_finetune.result.manifest import read_manifest
from hf_finetune.result.merge import Merged, write_merged
from tests.backbones.small import edit_config, write_resnet, write_timm, write_vit
from tests.result.results import LABELS, noise_photo, save_result, stock_answers

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]
MANY = tuple(f"class {number}/{499 - number}" for number in range(500))


def clip(folder: Path) -> Path:
    """A half-precision base whose config holds another config with a type of its own."""
    from tests.matrix.architectures import write_transformers

    write_transformers("clip", folder, 3).half().save_pretrained(folder)
    return folder


def stale_timm(folder: Path) -> Path:
    """A timm base with names for its classes, which transformers prefers to id2label, and with their number twice."""
    write_timm(folder, img_size=32, repeat_classes=True)
    edit_config(folder, label_names=["tench", "goldfish", "shark", "ray", "cock"])
    return folder


def several_labels(folder: Path) -> Path:
    """A base that was trained for several labels an image: pipelines answer with sigmoids."""
    write_vit(folder)
    edit_config(folder, problem_type="multi_label_classification")
    return folder


@dataclass(frozen=True)
class Case:
    base: Callable[[Path], Path]
    adapter: Lora | HeadOnly | Full
    quantization: str = "none"
    labels: tuple[str, ...] = LABELS


CASES = {
    "vit lora": Case(write_vit, Lora(rank=4)),
    "vit dora": Case(write_vit, Lora(rank=4, dora=True)),
    "vit rslora": Case(write_vit, Lora(rank=4, rslora=True, dropout=0.1)),
    "vit head_only": Case(write_vit, HeadOnly()),
    "vit full": Case(write_vit, Full()),
    "vit 500 classes": Case(write_vit, Lora(rank=4), labels=MANY),
    "vit of several labels": Case(several_labels, Lora(rank=4)),
    "vit fp16": Case(lambda folder: write_vit(folder, dtype=torch.float16), Lora(rank=4)),
    "vit bf16 head_only": Case(lambda folder: write_vit(folder, dtype=torch.bfloat16), HeadOnly()),
    "clip fp16": Case(clip, Lora(rank=4)),
    "resnet lora": Case(write_resnet, Lora(rank=4)),
    "starter": Case(lambda _: builtin_path("builtin:starter"), Lora(rank=4)),
    "vit int8": Case(write_vit, Lora(rank=4), quantization="int8"),
    "vit nf4": Case(write_vit, Lora(rank=4), quantization="nf4"),
    "vit nf4 head_only": Case(write_vit, HeadOnly(), quantization="nf4"),
    "timm lora": Case(stale_timm, Lora(rank=4)),
    "timm dora": Case(stale_timm, Lora(rank=4, dora=True)),
    "timm head_only": Case(stale_timm, HeadOnly()),
    "timm full": Case(stale_timm, Full()),
    "timm int8": Case(stale_timm, Lora(rank=4), quantization="int8"),
    "timm nf4": Case(stale_timm, Lora(rank=4), quantization="nf4"),
    "timm 500 classes": Case(stale_timm, Lora(rank=4), labels=MANY),
    "timm resnet": Case(lambda folder: write_timm(folder, "test_resnet"), Lora(rank=4)),
}


@dataclass(frozen=True)
class Made:
    result: Path
    merged: Merged
    base_pixels: str
    answer: dict[str, Any]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_photo(tmp_path_factory.mktemp("photo") / "photo.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> dict[str, Made]:
    """Every case merged; then one process with stock libraries alone reads all the folders."""
    results, written, pixels = {}, {}, {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("case")
        base = case.base(folder / "base")
        results[name] = save_result(
            base, case.adapter, folder / "result", labels=case.labels, quantization=case.quantization
        )
        pixels[name] = stock_pixels(base, photo)
        written[name] = write_merged(results[name], folder / "whole")
        assert sorted(path.name for path in folder.iterdir() if path != base) == ["result", "whole"]
    folders = [merged.folder for merged in written.values()]
    answers = stock_answers([photo], folders, tmp_path_factory.mktemp("elsewhere"))
    return {
        name: Made(results[name], merged, pixels[name], answers[str(merged.folder)][0])
        for name, merged in written.items()
    }


def stock_pixels(base: Path, photo: Path) -> str:
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(base, backend="pil")
    return processor(Image.open(photo), return_tensors="pt")["pixel_values"].numpy().tobytes().hex()


def result_logits(made: Made) -> np.ndarray:
    """What adapter and base, in float32, answer to the pixels that stock code gave the whole model."""
    manifest = replace(read_manifest(made.result), quantization="none")
    model = load_result(made.result, manifest, torch.float32, "cpu")
    size = (1, 3, manifest.preprocess.height, manifest.preprocess.width)
    pixels = np.frombuffer(bytes.fromhex(made.answer["pixels"]), dtype=np.float32).reshape(size)
    with torch.no_grad():
        return model(pixel_values=torch.from_numpy(pixels.copy())).logits[0].numpy()


@pytest.mark.parametrize("name", CASES)
def test_stock_code_alone_answers_as_the_result(name: str, made: dict[str, Made]) -> None:
    here, case = made[name], CASES[name]
    files = {"config.json", "model.safetensors"} | ({"preprocessor_config.json"} if "timm" not in name else set())
    assert set(here.merged.sizes) == files == {path.name for path in here.merged.folder.iterdir()}
    assert here.answer["dtypes"] == ["torch.float32"]
    assert here.answer["id2label"] == {str(number): label for number, label in enumerate(case.labels)}
    assert here.answer["pixels"] == here.base_pixels
    found = np.asarray(here.answer["logits"], dtype=np.float32)
    expected = result_logits(here)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected), rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_gives_every_label_its_probability(name: str, made: dict[str, Made]) -> None:
    answer, labels = made[name].answer, CASES[name].labels
    logits = torch.tensor(answer["logits"])
    shares = dict(zip(labels, logits.softmax(-1).tolist(), strict=True))
    assert answer["pipeline"].keys() == shares.keys()
    # Pipelines choose torchvision's resize, which differs by a grey level here and there.
    assert answer["pipeline"] == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize("name", CASES)
def test_the_difference_is_reported(name: str, made: dict[str, Made]) -> None:
    merged = made[name].merged
    assert merged.difference is not None
    share = merged.difference / merged.logits_range
    assert share < 1e-4 if CASES[name].quantization == "none" else 1e-4 < share < 0.3


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_peft_quantization_or_this_machine_is_left(name: str, made: dict[str, Made]) -> None:
    from safetensors import safe_open

    folder = made[name].merged.folder
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
    marks = ("lora_", "modules_to_save", "original_module", "base_layer", "ln_tuning", "SCB", "absmax")
    assert [each for each in names if any(mark in each for mark in marks)] == []
    text = (folder / "config.json").read_text("utf-8")
    assert str(folder.parent) not in text
    assert "quantization_config" not in text
    assert "float16" not in text


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("timm")])
def test_timm_itself_loads_a_timm_model(name: str, made: dict[str, Made]) -> None:
    import timm

    here = made[name]
    model = timm.create_model(f"local-dir:{here.merged.folder}", pretrained=True).eval()
    pixels = np.frombuffer(bytes.fromhex(here.answer["pixels"]), dtype=np.float32)
    side = model.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels.copy().reshape(1, 3, side, side)))[0].numpy()
    np.testing.assert_allclose(logits, here.answer["logits"], atol=1e-4 * np.ptp(logits), rtol=0)


def test_the_difference_on_given_pixels_is_the_one_on_those(made: dict[str, Made], tmp_path: Path) -> None:
    """Dark images say another thing of quantization than the generated ones."""
    case = CASES["vit int8"]
    result = save_result(case.base(tmp_path / "base"), case.adapter, tmp_path / "result", quantization="int8")
    pixels = np.random.default_rng(1).integers(0, 9, (5, 3, 32, 32), dtype=np.uint8)
    merged = write_merged(result, tmp_path / "whole", pixels=pixels)
    assert merged.difference != made["vit int8"].merged.difference
    device = detect().device  # int8 is measured where it runs
    trained = hf_finetune.load(result, device=device).model
    whole = load_whole(merged.folder)
    normalised = torch.from_numpy(pixels).float() / 127.5 - 1
    with torch.no_grad(), stock_arithmetic(trained):  # as the merge measures it
        apart = trained(pixel_values=normalised.to(device)).logits.cpu() - whole(pixel_values=normalised).logits
    assert merged.difference == pytest.approx(float(apart.abs().max()), rel=1e-3)


def load_whole(folder: Path) -> Any:
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(folder).eval()
