"""`evaluate` module: accuracy."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class Accuracy(evaluate.Metric):
    """Share of rows whose prediction is their label."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of rows whose prediction is their label.",
            citation="",
            inputs_description="predictions, references: class ids [N]. Returns accuracy.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: np.ndarray, references: np.ndarray
    ) -> dict[str, float]:
        return {"accuracy": measures.accuracy(predictions, references)}
