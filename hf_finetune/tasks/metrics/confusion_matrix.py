"""`evaluate` module: the confusion matrix."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class ConfusionMatrix(evaluate.Metric):
    """How often each class was taken for each other."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="How often each class was taken for each other.",
            citation="",
            inputs_description=(
                "predictions, references: class ids [N]; num_classes C. Returns confusion_matrix [C][C], rows the "
                "references, columns the predictions."
            ),
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: np.ndarray, references: np.ndarray, num_classes: int
    ) -> dict[str, list]:
        return {"confusion_matrix": measures.confusion_matrix(predictions, references, num_classes).tolist()}
