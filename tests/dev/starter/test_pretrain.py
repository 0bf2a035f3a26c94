from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from dev.starter.pretrain import Settings, build, logits_of, pretrain, write

TINY = ("--steps", "30", "--batch", "32", "--characters", "3", "--width", "32", "--depth", "1", "--heads", "1")
TINY_SETTINGS = Settings(steps=30, batch=32, characters=3, width=32, depth=1, heads=1)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Pretraining sets the number of threads, which the process's other tests must not inherit."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.e2e
def test_thirty_steps_lower_the_loss_and_the_same_settings_give_the_same_weights():
    model, losses = pretrain(TINY_SETTINGS)
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    again, _ = pretrain(TINY_SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.e2e
def test_the_command_writes_the_weights_and_what_made_them(tmp_path: Path):
    command = [sys.executable, "-m", "dev.starter.pretrain", "--out", str(tmp_path), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "SETTINGS.json").read_text(encoding="utf-8"))
    assert facts["settings"] == dataclasses.asdict(TINY_SETTINGS)
    assert facts["images_drawn"] == 960
    assert facts["sha256"] == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(facts)


def test_stock_transformers_loads_every_weight_but_the_head(tmp_path: Path):
    model = build(TINY_SETTINGS, 9)
    write(model, tmp_path)
    loaded, info = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=5, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    written = dict(model.vit.named_parameters())
    assert len(written) > 15
    assert all(torch.equal(tensor, written[name]) for name, tensor in loaded.vit.named_parameters())


def test_the_training_pass_with_all_patches_is_the_librarys_forward():
    torch.manual_seed(0)
    model = build(Settings(width=32, depth=2, heads=2), 7).eval()
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(logits_of(model, pixels, None), model(pixel_values=pixels).logits, atol=1e-6)
        assert logits_of(model, pixels, 16).shape == (4, 7)
