"""`evaluate` module: expected calibration error."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_finetune.tasks import measures


class CalibrationError(evaluate.Metric):
    """Expected calibration error with 15 equal-width bins (arXiv 1706.04599)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Mean over 15 equal-width bins of confidence, weighted by rows, of |share correct − mean confidence|."
            ),
            citation="Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017",
            inputs_description=(
                "predictions, references: class ids [N]; confidences: probability of the prediction [N]. Returns "
                "calibration_error."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "confidences": datasets.Value("float64"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, predictions: list[int], references: list[int], confidences: list[float]
    ) -> dict[str, float]:
        # No format="numpy" above: that one narrows float64 to float32.
        rows = np.asarray(confidences), np.asarray(predictions), np.asarray(references)
        return {"calibration_error": measures.calibration_error(*rows)}
