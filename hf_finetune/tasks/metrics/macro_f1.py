"""`evaluate` module: macro F1."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class MacroF1(evaluate.Metric):
    """Mean F1 over the classes that occur among predictions or references."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean F1 over the classes that occur among predictions or references.",
            citation="",
            inputs_description="predictions, references: class ids [N]. Returns macro_f1.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            format="numpy",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: np.ndarray, references: np.ndarray
    ) -> dict[str, float]:
        return {"macro_f1": measures.macro_f1(predictions, references)}
