"""Whole runs on one and two processes end equally good: the quickstart over three seeds. Minutes; `make test-slow`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from tests.pipeline.launched import ROOT, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_two_processes_end_within_a_point_of_one(tmp_path: Path, quantization: str) -> None:
    recipe = ROOT / "recipes" / "quickstart.yaml"
    accuracies: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(3):
        for processes in accuracies:
            out = tmp_path / f"{processes}-{seed}"
            train(recipe, out, processes, f"train.seed={seed}", f"quantization.kind={quantization}")
            report = json.loads((out / "run.json").read_text("utf-8"))
            assert report["machine"]["world_size"] == processes
            accuracies[processes].append(report["test"]["accuracy"])
    assert statistics.mean(accuracies[1]) == pytest.approx(statistics.mean(accuracies[2]), abs=0.01), accuracies
