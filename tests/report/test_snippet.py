"""The lines of the card, executed: they load what was saved, logit for logit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    BitsAndBytesConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from hf_finetune.report.snippet import BASE_PLACE, PLACE, predict_snippet, stock_snippet
from hf_finetune.report.wording.classes import ClassWords
from tests.report.example import example

LABELS = ["n/a", "yes", "Zürich"]
# peft 0.21.2 asks transformers 5.23 for a property under its old name (2026-11-23).
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]


def save_base(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A ViT of five other classes."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=32, num_labels=5
    )
    ViTForImageClassification(config).to(dtype).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def adapt(base: Path, **options: Any) -> PeftModel:
    """LoRA with weights that change something, and a head of three classes, on the base in float32."""
    labels = dict(enumerate(LABELS))
    model = AutoModelForImageClassification.from_pretrained(
        base,
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
        ignore_mismatched_sizes=True,
        dtype="float32",
        **options,
    )
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                weight.normal_(std=0.3)
    return adapted.eval()


def save_adapter(model: PeftModel, base: Path, folder: Path, dtype: str = "float32") -> None:
    model.save_pretrained(folder)
    config = model.get_base_model().config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = dtype
    config.save_pretrained(folder)
    ViTImageProcessor.from_pretrained(base).save_pretrained(folder)


def run(code: str, **places: Path) -> dict[str, Any]:
    for place, path in places.items():
        assert place in code
        code = code.replace(place, str(path))
    names: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), names)
    return names


def logits_of(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(pixel_values=pixels.to(model.device)).logits.cpu()  # bitsandbytes put it onto the GPU


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_local_base_is_loaded_from_the_readers_path_whatever_type_it_was_saved_in(tmp_path: Path, dtype: str) -> None:
    base = save_base(tmp_path / "base model", getattr(torch, dtype))
    model = adapt(base)
    save_adapter(model, base, tmp_path / "adapter", dtype)
    code = stock_snippet(example(LABELS, model=str(base)))
    assert str(tmp_path) not in code
    names = run(code, **{PLACE: tmp_path / "adapter", BASE_PLACE: base})
    pixels = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(logits_of(names["model"], pixels), logits_of(model, pixels), rtol=0, atol=1e-5)
    assert list(names["model"].config.id2label.values()) == LABELS
    assert type(names["processor"]).__name__ == "ViTImageProcessorPil"


def test_a_built_in_base_is_loaded_from_the_adapters_own_folder_and_predicts_for_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    model = adapt(save_base(adapter / "base"))
    save_adapter(model, adapter / "base", adapter)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    code = stock_snippet(example(LABELS, model="builtin:starter"))
    names = run(code + predict_snippet(ClassWords({"kind": "classification"}, ()).answer_lines()), **{PLACE: adapter})
    label, probability = capsys.readouterr().out.strip().rsplit(" ", 1)
    pixels = names["processor"](names["image"], return_tensors="pt")["pixel_values"]
    expected = logits_of(model, pixels).softmax(-1)[0]
    assert label == LABELS[int(expected.argmax())]
    assert float(probability) == pytest.approx(float(expected.max()), abs=1e-5)


def test_the_photo_follows_the_model_to_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tmp_path / "adapter"
    save_adapter(adapt(save_base(adapter / "base")), adapter / "base", adapter)
    Image.new("RGB", (40, 50)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    # Not the CPU, and on every machine: meta tensors have shapes and no values, so that only the answer has no label.
    moved = 'model = model.to("meta")\n' + predict_snippet(ClassWords({"kind": "classification"}, ()).answer_lines())
    code = stock_snippet(example(LABELS, model="builtin:starter")) + moved.rsplit("print", 1)[0]
    probabilities = run(code, **{PLACE: adapter})["probabilities"]
    assert (probabilities.device.type, tuple(probabilities.shape)) == ("meta", (len(LABELS),))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_base_is_quantized_again(tmp_path: Path, kind: str) -> None:
    config = {
        "int8": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["classifier"]),
        "nf4": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=["classifier"],
        ),
    }[kind]
    base = save_base(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bitsandbytes' remarks on types are not ours to judge here
        model = adapt(base, quantization_config=config)
        save_adapter(model, base, tmp_path / "adapter")
        report = example(
            LABELS,
            model=str(base),
            overrides=(f"quantization.kind={kind}",),
            quantization_config=config.to_diff_dict(),
        )
        names = run(stock_snippet(report), **{PLACE: tmp_path / "adapter", BASE_PLACE: base})
        pixels = torch.randn(4, 3, 32, 32)
        wanted = logits_of(model, pixels)
        # Numbers of two or three digits between the layers: where a kernel adds in another order, the last may differ.
        torch.testing.assert_close(
            logits_of(names["model"], pixels), wanted, rtol=0, atol=0.02 * float(wanted.abs().max())
        )
    kinds = {type(module).__name__ for module in names["model"].modules()}
    assert {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[kind] in kinds


def test_a_fully_fine_tuned_model_is_loaded_whole(tmp_path: Path) -> None:
    base = save_base(tmp_path / "model")
    code = stock_snippet(example(LABELS, model="org/vit", commit="c" * 40, overrides=("adapter.kind=full",)))
    names = run(code, MODEL_PATH_OR_HUB_ID=base)
    assert isinstance(names["model"], ViTForImageClassification)
    assert "peft" not in code


def test_a_hub_base_is_pinned_to_its_commit() -> None:
    code = stock_snippet(example(model="timm/vit_tiny", commit="c" * 40))
    assert f'"timm/vit_tiny", revision="{"c" * 40}", config=config, ignore_mismatched_sizes=True' in " ".join(
        code.split()
    )
    assert BASE_PLACE not in code


def test_a_quantized_report_without_its_quantization_config_is_not_passed_over() -> None:
    report = example(overrides=("quantization.kind=int8",))
    with pytest.raises(ValueError, match=r"expected to hold model\.quantization_config"):
        stock_snippet(report)


@pytest.mark.real
def test_a_real_timm_base_is_loaded_with_its_labels_and_timms_own_preprocessing(
    tmp_path: Path, shared_data: Path
) -> None:
    base = shared_data / "weights" / "vit_tiny_timm"
    # timm's config keeps its own names when they are given to from_pretrained, so they are set on it.
    config = AutoConfig.from_pretrained(base)
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: number for number, name in config.id2label.items()}
    plain = AutoModelForImageClassification.from_pretrained(
        base, config=config, ignore_mismatched_sizes=True, dtype="float32"
    )
    model = get_peft_model(plain, LoraConfig(target_modules=["qkv"], modules_to_save=["head"])).eval()
    model.save_pretrained(tmp_path)
    plain.config.save_pretrained(tmp_path)
    names = run(stock_snippet(example(LABELS, model=str(base))), **{PLACE: tmp_path, BASE_PLACE: base})
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    pixels = names["processor"](photo, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    torch.testing.assert_close(logits_of(names["model"], pixels), logits_of(model, pixels), rtol=0, atol=1e-5)
    assert list(names["model"].config.id2label.values()) == LABELS
