"""Logit adjustment after training: `evaluate` and `export` of a result that was trained without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_finetune.adapters import Full, Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.cli import main
from hf_finetune.errors import AdapterError, RecipeError
from hf_finetune.result.adjust import adjust
from hf_finetune.result.answers import logits_of
from hf_finetune.result.compare import generated_pixels, stock_logits
from hf_finetune.result.evaluate import evaluate
from hf_finetune.result.files import sha256_of
from hf_finetune.result.load import load_result
from hf_finetune.result.manifest import FILE, read_manifest, write_manifest
from hf_finetune.tasks.classification import log_prior
from tests.result.results import LABELS, save_result

pytestmark = [
    # 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]
COUNTS = [400, 100, 50, 25, 12, 6, 3, 1]


def result_with(folder: Path, adapter: Lora | Full, recipe: str = "{}", **task: object) -> Path:
    result = save_result(builtin_path("builtin:starter"), adapter, folder)
    settings = {"kind": "classification", "class_counts": COUNTS, **task}
    write_manifest(result, replace(read_manifest(result), task=settings))
    (result / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return result


@pytest.mark.parametrize("adapter", [Lora(rank=4), Full()], ids=["lora", "full"])
def test_the_exported_model_says_by_stock_code_what_the_result_says_less_the_log_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], adapter: Lora | Full
) -> None:
    calibration = {"temperature": 2.0, "set_threshold": 0.1, "calibrated_from": "328 validation images"}
    result = result_with(tmp_path / "result", adapter, **calibration)
    manifest = read_manifest(result)
    pixels = generated_pixels(manifest.preprocess)
    plain = logits_of(load_result(result, manifest, torch.float32, "cpu"), pixels, manifest.preprocess)
    assert main(["export", str(result), str(tmp_path / "whole"), "--logit-adjustment", "0.5"]) == 0
    assert "Logits differ from the adjusted result's (0.5) by at most" in capsys.readouterr().out
    stock = stock_logits(tmp_path / "whole", LABELS, pixels, manifest.preprocess)
    np.testing.assert_allclose(stock, plain - np.array(log_prior(COUNTS, 0.5)), atol=1e-4)
    config = AutoModelForImageClassification.from_pretrained(tmp_path / "whole").config
    assert tuple(config.id2label.values()) == LABELS
    assert config.task == {"kind": "classification", "class_counts": COUNTS}  # no temperature of other answers
    assert config.problem_type == "single_label_classification"


def test_evaluate_scores_a_run_as_if_it_had_been_adjusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = (f"output.dir={run}", "ladder=[probe]", "train.decode_workers=1")
    assert main(["train", "quickstart", *settings]) == 0
    capsys.readouterr()
    manifest = read_manifest(run / "adapter")
    counts = manifest.task["class_counts"]
    assert len(counts) == 10
    assert sum(counts) == json.loads((run / "run.json").read_text("utf-8"))["data"]["counts"]["train"]
    # As if the run had seen next to nothing but nines: adjusted, it never says nine.
    write_manifest(run / "adapter", replace(manifest, task={**manifest.task, "class_counts": [1] * 9 + [10**40]}))
    report = json.loads((run / "run.json").read_text("utf-8"))
    report["files"][FILE] = sha256_of(run / "adapter" / FILE)
    (run / "run.json").write_text(json.dumps(report), "utf-8")
    plain, adjusted = evaluate(run), evaluate(run, logit_adjustment=1.0)
    assert plain["per_class"]["9"]["recall"] > 0.9
    assert adjusted["per_class"]["9"]["recall"] == 0
    assert adjusted["accuracy"] < plain["accuracy"]
    assert any("logits adjusted after training" in note for note in adjusted["notes"])


@pytest.mark.parametrize(
    ("recipe", "task", "strength", "said"),
    [
        ("task: {logit_adjustment: 1}", {}, 1.0, "found task.logit_adjustment=1"),
        ("train: {sampler: balanced}", {}, 1.0, "found train.sampler=balanced"),
        ("{}", {"class_counts": []}, 1.0, "from before 2026-11-29"),
        ("{}", {"kind": "multilabel", "class_counts": None}, 1.0, "found task.kind=multilabel"),
        ("{}", {}, -1.0, "a number from 0 to 10 is expected, found -1"),
        ("{}", {}, float("nan"), "a number from 0 to 10 is expected, found nan"),
    ],
)
def test_results_that_cannot_be_adjusted_are_refused(
    tmp_path: Path, recipe: str, task: dict[str, object], strength: float, said: str
) -> None:
    folder = result_with(tmp_path / "result", Lora(rank=4), recipe)
    manifest = read_manifest(folder)
    settings = {key: value for key, value in {**manifest.task, **task}.items() if value is not None}
    with pytest.raises((AdapterError, RecipeError), match=said):
        adjust(torch.nn.Identity(), folder, replace(manifest, task=settings), strength)
