"""An int8 result's own figures are set beside what stock arithmetic says of the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_finetune.adapters import Lora
from hf_finetune.backbones.quantized import Linear8bitLt
from hf_finetune.labels import ClassAnswers
from hf_finetune.result.answers import predict_answers
from hf_finetune.result.beside_stock import SHORT_SAMPLE, beside_stock
from hf_finetune.result.load import load_result
from hf_finetune.result.manifest import read_manifest
from tests.backbones.small import write_vit
from tests.result.results import save_result
from tests.training.rows import MemoryRows


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_rows_are_answered_both_ways_and_compared(tmp_path: Path) -> None:
    folder = save_result(write_vit(tmp_path / "base"), Lora(rank=2), tmp_path / "adapter", quantization="int8")
    manifest = read_manifest(folder)
    model = load_result(folder, manifest, torch.float32, "cpu", compute="dequantized")
    rows = MemoryRows(40, manifest.preprocess.height)
    answers = predict_answers(model, rows, manifest.preprocess, manifest.target, batch=8)
    found = beside_stock(model, rows, manifest, answers, compute="auto", short=True)
    assert found["answers_compared"] == SHORT_SAMPLE
    assert 0 < found["confidences_differ_by"] < 0.01
    assert {layer.compute for layer in model.modules() if isinstance(layer, Linear8bitLt)} == {"dequantized"}
    assert isinstance(answers, ClassAnswers)
    wrong = replace(answers, top=(answers.top + 1) % 3)
    again = beside_stock(model, rows, manifest, wrong, compute="auto", short=False)
    assert again["answers_compared"] == again["answers_that_differ"] == 40
