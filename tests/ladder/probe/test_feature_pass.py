"""The pass over the frozen backbone: what it says of its own speed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.ladder.probe.feature_pass import FeaturePlace, PassResult, extract_features
from hf_finetune.pipeline.model import build_model
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.recipe.recipe import load_recipe
from tests.cli.photos import write_photos
from tests.training.rows import MemoryRows, save_tiny_vit

GATHER_S = 0.2


class SlowRows(MemoryRows):
    """Rows that take a while to come, but for the first batch."""

    def gather(self, indices: np.ndarray) -> np.ndarray:
        if min(indices) > 0:
            time.sleep(GATHER_S)
        return super().gather(indices)


def test_an_images_seconds_are_those_of_the_whole_pass(tmp_path: Path) -> None:
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny"))},
        "data": {"name": str(write_photos(tmp_path / "photos")), "validation_share": 0.2},
        "train": {"effective_batch_size": 16, "decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    context = prepare_run(load_recipe(recipe))
    rows = SlowRows(64, context.facts.preprocess.height)
    forecasts: list[tuple[float, int]] = []

    def passed() -> PassResult:
        return extract_features(
            build_model(context),
            context,
            {"train": rows},
            FeaturePlace(tmp_path / "cache", "of this test"),
            None,
            announce=lambda image_s, missing: forecasts.append((image_s, missing)),
        )

    first = passed()
    batches = -(-64 // context.plan.micro_batch.value)
    assert first.image_s >= (batches - 1) * GATHER_S / 64
    assert (first.forecast_s, forecasts[0][1]) == (pytest.approx(64 * forecasts[0][0]), 64)
    again = passed()  # nothing is left to run, and the first batch is all that can be measured
    assert again.found
    assert (again.image_s, again.forecast_s) == (forecasts[1][0], 0)
