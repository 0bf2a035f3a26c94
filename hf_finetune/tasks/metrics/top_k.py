"""`evaluate` module: top-k accuracy."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class TopK(evaluate.Metric):
    """Share of rows whose label is among the k classes with the highest scores."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description="Share of rows whose label is among the first k predictions.",
            citation="",
            inputs_description=(
                "predictions: class ids by falling score [N, at least k]; references: class ids [N]; k. Returns top_k. "
                "Ids instead of scores keep thousands of classes out of the metric's cache."
            ),
            features=datasets.Features({"predictions": ids, "references": datasets.Value("int64")}),
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: list[list[int]], references: list[int], k: int = 5
    ) -> dict[str, float]:
        top = np.asarray(predictions)
        if not 1 <= k <= top.shape[1]:
            raise ValueError(f"k from 1 to the {top.shape[1]} predictions of a row is expected, got {k}")
        return {"top_k": measures.top_k_accuracy(top[:, :k], np.asarray(references))}
