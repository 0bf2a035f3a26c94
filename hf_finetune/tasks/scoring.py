"""Which numbers are reported for a split whose rows have one class each.

The formulas are those of `measures.py`; a full score goes through the `evaluate` modules of `metrics/`, a quick one
(after every evaluation while training) calls the same formulas directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_finetune.labels import ClassAnswers
from hf_finetune.tasks import measures
from hf_finetune.tasks.custom_metrics import Metric, measure_custom
from hf_finetune.tasks.measures import reduce_logits
from hf_finetune.tasks.target import NO_METRICS

# What a split's result holds; a metric of the caller's may have none of these names.
_NUMBERS = ("rows", "loss", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1", "ece", "top5",
            "covered")  # fmt: skip
OWN = frozenset((*_NUMBERS, "per_class", "confused_pairs", "confusion", "calibration"))
TOP_K = 5
LARGEST_MATRIX = 200  # classes; above it a matrix is mostly zeros and unreadable
MOST_PAIRS = 50


def answers_of(logits: np.ndarray, labels: np.ndarray) -> ClassAnswers:
    """logits float [N, C], labels int64 [N] → what `score_answers` takes; batch by batch, logits need never be whole.

    Raises DataError (no rows, a label out of range).
    """
    return reduce_logits(logits, np.asarray(labels, np.int64), TOP_K)


def score_answers(
    reduced: ClassAnswers,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    full: bool,
    metrics: Mapping[str, Metric] = NO_METRICS,
) -> dict[str, Any]:
    """Answers and labels int64 [N], names of the C classes → the metrics, all plain Python values.

    Always: `rows`, `loss` (mean cross-entropy, nats), `accuracy`, `accuracy_low`, `accuracy_high` (95 % bootstrap
    interval), `balanced_accuracy`, `macro_f1`, `ece`, and where C > 5 `top5`. With `full` also `per_class` (name →
    precision, recall, f1, support), `confused_pairs` (the 50 most frequent mistakes by name), `calibration` (of each
    bin of `ece` with rows: how many, their mean confidence, the share that is right) and, up to 200 classes,
    `confusion` [C][C] (rows labels, columns predictions). `metrics` are the caller's own, by name.
    Raises DataError (no rows), TrainingError (a logit was not finite, or one of `metrics` failed).
    """
    if not len(reduced):
        raise measures.no_rows()
    measures.check_finite(reduced)
    classes, labels = len(names), np.asarray(labels, np.int64)
    shares = _by_evaluate(reduced, labels) if full else _directly(reduced, labels)
    low, high = measures.accuracy_interval(shares["accuracy"], len(labels))
    result: dict[str, Any] = {
        "rows": len(labels),
        "loss": float(reduced.loss.mean()),
        "accuracy": shares["accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": shares["balanced_accuracy"],
        "macro_f1": shares["macro_f1"],
        "ece": shares["calibration_error"],
    }
    if classes > TOP_K:
        result["top5"] = shares["top_k"]
    result.update(measure_custom(metrics, reduced, labels))
    if full:
        result.update(_by_class(reduced.predicted, labels, names))
        result["calibration"] = _by_confidence(reduced, labels)
    return result


def _directly(reduced: ClassAnswers, labels: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": measures.accuracy(reduced.predicted, labels),
        "top_k": measures.top_k_accuracy(reduced.top, labels),
        "balanced_accuracy": measures.balanced_accuracy(reduced.predicted, labels),
        "macro_f1": measures.macro_f1(reduced.predicted, labels),
        "calibration_error": measures.calibration_error(reduced.confidence, reduced.predicted, labels),
    }


def _by_evaluate(reduced: ClassAnswers, labels: np.ndarray) -> dict[str, float]:
    from hf_finetune.tasks.metrics import load

    rows = {"predictions": reduced.predicted, "references": labels}
    results = (
        load("accuracy").compute(**rows),
        load("balanced_accuracy").compute(**rows),
        load("macro_f1").compute(**rows),
        load("calibration_error").compute(**rows, confidences=reduced.confidence),
        load("top_k").compute(predictions=reduced.top, references=labels, k=reduced.top.shape[1]),
    )
    return {name: value for result in results for name, value in (result or {}).items()}


def _by_class(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    from hf_finetune.tasks.metrics import load

    rows: dict[str, Any] = {"predictions": predicted, "references": labels, "num_classes": len(names)}
    table = load("per_class").compute(**rows) or {}
    result: dict[str, Any] = {
        "per_class": {name: {column: values[i] for column, values in table.items()} for i, name in enumerate(names)},
        "confused_pairs": [
            {"label": names[pair["label"]], "predicted": names[pair["predicted"]], "count": pair["count"]}
            for pair in measures.confused_pairs(predicted, labels, MOST_PAIRS)
        ],
    }
    if len(names) <= LARGEST_MATRIX:
        result["confusion"] = (load("confusion_matrix").compute(**rows) or {})["confusion_matrix"]
    return result


def _by_confidence(reduced: ClassAnswers, labels: np.ndarray) -> list[dict[str, float]]:
    bins = zip(*measures.calibration_bins(reduced.confidence, reduced.predicted, labels), strict=True)
    return [
        {"rows": int(rows), "confidence": float(sure / rows), "right": float(right / rows)}
        for rows, sure, right in bins
        if rows
    ]
