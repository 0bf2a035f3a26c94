"""`evaluate` module: precision, recall, F1 and support of each class."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class PerClass(evaluate.Metric):
    """Precision, recall, F1 and support of each class; 0 where a quotient is 0/0."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Precision, recall, F1 and support of each class; 0 where a quotient is 0/0.",
            citation="",
            inputs_description=(
                "predictions, references: class ids [N]; num_classes. Returns precision, recall, f1, support, each a "
                "list by class id."
            ),
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: np.ndarray, references: np.ndarray, num_classes: int
    ) -> dict[str, list]:
        table = measures.per_class(predictions, references, num_classes)
        return {name: column.tolist() for name, column in table.items()}
