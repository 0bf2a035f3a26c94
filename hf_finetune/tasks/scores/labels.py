"""Which numbers are reported for a split whose rows have any number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_finetune.labels import ValueAnswers
from hf_finetune.tasks import measures
from hf_finetune.tasks.custom_metrics import Metric, measure_custom
from hf_finetune.tasks.scores.label_measures import average_precision, f1


def score_labels(
    thresholds: Mapping[str, float],
    answers: ValueAnswers,
    labels: np.ndarray,
    *,
    full: bool,
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """Answers and labels float [N, C] of 0 and 1, each label's threshold by name and in order → the metrics, all plain
    Python values.

    Always: `rows`, `loss` (the task's), `map` (mean average precision over the labels that some row has), `macro_f1`
    and `micro_f1` at the thresholds, `subset_accuracy` (rows whose labels are all told rightly). With `full` also
    `per_label` (name → average precision, precision, recall, F1, rows that have it, threshold).
    Raises DataError (no rows), TrainingError (a logit was not finite).
    """
    if not len(answers):
        raise measures.no_rows()
    measures.check_finite(answers)
    truth, scores = np.asarray(labels, np.float64), answers.values
    known = ~np.isnan(truth)
    said = (scores >= np.array(list(thresholds.values()))) & known
    table = {
        name: _of_one(scores[there, place], truth[there, place], said[there, place], threshold)
        for place, ((name, threshold), there) in enumerate(zip(thresholds.items(), known.T, strict=True))
    }
    occurring = [row for row in table.values() if row["support"]] or list(table.values())
    precisions = [row["average_precision"] for row in occurring if not np.isnan(row["average_precision"])]
    result: dict[str, Any] = {
        "rows": len(answers),
        "loss": float(answers.loss.mean()),
        "map": float(np.mean(precisions)) if precisions else 0.0,
        "macro_f1": float(np.mean([row["f1"] for row in occurring])),
        "micro_f1": f1(said[known].astype(float), truth[known]),
        "subset_accuracy": float(((said == (truth == 1)) | ~known).all(1).mean()),
    }
    if full:
        result["per_label"] = {
            name: {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
            for name, row in table.items()
        }
    return result | measure_custom(metrics, answers, np.asarray(labels))


def _of_one(scores: np.ndarray, truth: np.ndarray, said: np.ndarray, threshold: float) -> dict[str, Any]:
    hits, named, support = float((said * truth).sum()), int(said.sum()), int(truth.sum())
    return {
        "average_precision": average_precision(scores, truth),
        "precision": hits / named if named else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": f1(said.astype(float), truth),
        "support": support,
        "threshold": threshold,
    }
