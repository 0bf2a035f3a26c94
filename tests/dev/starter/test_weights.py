from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageClassification

from dev.starter.pretrain import Settings
from hf_finetune.backbones.checkpoint import builtin_path

pytestmark = pytest.mark.e2e

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "starter_vs_scratch.py"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model gains nothing from two threads, and on a busy machine they wait for each other tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("starter_vs_scratch", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_weights_are_small_finite_float32_and_the_ones_that_the_settings_describe():
    weights = builtin_path("builtin:starter") / "model.safetensors"
    facts = json.loads((builtin_path("builtin:starter") / "SETTINGS.json").read_text(encoding="utf-8"))
    assert weights.stat().st_size == facts["bytes"] <= 3_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == facts["sha256"]
    assert set(facts["settings"]) == set(Settings.__dataclass_fields__)
    with safe_open(weights, framework="pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in tensors)


def test_auto_classes_load_it_and_only_the_head_is_new():
    names = {0: "n/a", 1: "1", 2: "True"}
    model, info = AutoModelForImageClassification.from_pretrained(
        builtin_path("builtin:starter"), id2label=names, label2id={name: number for number, name in names.items()},
        ignore_mismatched_sizes=True, output_loading_info=True,
    )  # fmt: skip
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    processor = AutoImageProcessor.from_pretrained(builtin_path("builtin:starter"))
    pixels = processor(np.zeros((50, 70, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.all(pixels == -1)
    assert model(pixel_values=pixels).logits.shape == (1, 3)


def test_its_frozen_features_beat_raw_pixels_at_ten_images_a_class(benchmark: ModuleType):
    digits = benchmark.Digits()
    raw, _ = benchmark.regression(digits.raw, digits, "10", [0, 1, 2])
    frozen, _ = benchmark.regression(benchmark.frozen_features(digits), digits, "10", [0, 1, 2])
    assert np.mean(frozen) > np.mean(raw) + 0.01


# peft 0.21.2 asks transformers 5.23 by the old name (2026-11-23).
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.slow
def test_lora_on_it_beats_training_from_random_weights_at_ten_images_a_class(benchmark: ModuleType):
    digits = benchmark.Digits()
    rows = digits.pick(10, 0)
    tests = {}
    for way, make, rate in (("lora", benchmark.lora_model, 3e-3), ("scratch", benchmark.scratch_model, 1e-3)):
        model = make(0)
        benchmark.fit(model, digits, rows, rate, 12, 0)
        tests[way] = benchmark.accuracy(model, digits, digits.test)
    assert tests["lora"] > tests["scratch"] + 0.05, tests
