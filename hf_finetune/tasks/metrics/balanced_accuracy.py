"""`evaluate` module: balanced accuracy."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class BalancedAccuracy(evaluate.Metric):
    """Mean recall over the classes that occur among the references."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean recall over the classes that occur among the references.",
            citation="",
            inputs_description="predictions, references: class ids [N]. Returns balanced_accuracy.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: np.ndarray, references: np.ndarray
    ) -> dict[str, float]:
        return {"balanced_accuracy": measures.balanced_accuracy(predictions, references)}
