"""Which numbers are reported for a split whose rows have grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_finetune.labels import ValueAnswers
from hf_finetune.tasks import measures
from hf_finetune.tasks.custom_metrics import Metric, measure_custom


def score_grades(
    names: Sequence[str],
    said: np.ndarray,
    answers: ValueAnswers,
    labels: np.ndarray,
    *,
    full: bool,
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """The grades' names, those said int64 [N], answers and labels int64 [N] → the metrics, all plain Python values.

    Always: `rows`, `loss` (of the cumulative links), `kappa` (quadratic weights), `grade_error` (mean distance in
    grades), `accuracy` with its 95 % bootstrap interval, `near` (rows at most one grade off). With `full` also
    `per_class` (name → precision, recall, F1, support) and `confusion` [K][K] (rows labels, columns predictions).
    Raises DataError (no rows), TrainingError (a logit was not finite).
    """
    if not len(answers):
        raise measures.no_rows()
    measures.check_finite(answers)
    true, grades = np.asarray(labels).astype(np.int64), len(names)
    off = np.abs(said - true)
    right = measures.accuracy(said, true)
    low, high = measures.accuracy_interval(right, len(true))
    result: dict[str, Any] = {
        "rows": len(true),
        "loss": float(answers.loss.mean()),
        "kappa": quadratic_kappa(said, true, grades),
        "grade_error": float(off.mean()),
        "accuracy": right,
        "accuracy_low": low,
        "accuracy_high": high,
        "near": float((off <= 1).mean()),
    }
    if full:
        table = measures.per_class(said, true, grades)
        result["per_class"] = {
            name: {column: values[place].item() for column, values in table.items()} for place, name in enumerate(names)
        }
        result["confusion"] = measures.confusion_matrix(said, true, grades).tolist()
    return result | measure_custom(metrics, answers, np.asarray(labels))


def quadratic_kappa(predicted: np.ndarray, true: np.ndarray, grades: int) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968), as scikit-learn's; 0 where chance alone agrees as well."""
    seen = measures.confusion_matrix(predicted, true, grades).astype(float)
    chance = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    weights = np.square(np.subtract.outer(np.arange(grades), np.arange(grades))).astype(float)
    expected = (weights * chance).sum()
    return float(1 - (weights * seen).sum() / expected) if expected else 0.0
