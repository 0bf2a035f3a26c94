"""Which numbers are reported for a split whose rows have numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.tasks import measures, number_measures
from hf_finetune.tasks.custom_metrics import Metric, measure_custom
from hf_finetune.types import ValueAnswers

if TYPE_CHECKING:
    from hf_finetune.tasks.regression import NumberTarget


def score_numbers(
    target: NumberTarget, answers: ValueAnswers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Answers and labels float [N, K] → the metrics, all plain Python values.

    Always: `rows`, `loss` (the task's, of standardised numbers), `r2` (of the logarithms where those were learnt),
    `mae` and `rmse` in the numbers' unit, `spearman`; means over several numbers. With `full` also `r2_low`, `r2_high`,
    `mae_low`, … (95 % bootstrap intervals, of one number), `covered` (the share of rows within their prediction
    interval, where there are any) and, of several, `per_target` (name → the same).
    Raises DataError (no rows), TrainingError (an output was not finite).
    """
    if not len(answers):
        raise measures.no_rows()
    measures.check_finite(answers)
    true = np.asarray(labels, np.float64).reshape(answers.values.shape)
    each = {
        name: _of_one(target, answers.values, true, place, full=full) for place, name in enumerate(target.outputs.names)
    }
    columns = list(each.values())
    result: dict[str, Any] = {"rows": len(answers), "loss": float(answers.loss.mean())}
    result |= {key: float(np.mean([column[key] for column in columns if key in column])) for key in columns[0]}
    if full and len(columns) > 1:
        result = {key: value for key, value in result.items() if not key.endswith(("_low", "_high"))}
        result["per_target"] = each
    return result | measure_custom(metrics, answers, np.asarray(labels))


def _of_one(target: NumberTarget, values: np.ndarray, true: np.ndarray, place: int, *, full: bool) -> dict[str, float]:
    there = ~np.isnan(true[:, place])
    if not there.any():
        return {}
    said, wanted = values[there, place], true[there, place]
    learnt = (np.log(said), np.log(wanted)) if target.log else (said, wanted)
    pairs = {
        "r2": (number_measures.r2, learnt),
        "mae": (number_measures.mean_absolute_error, (said, wanted)),
        "rmse": (number_measures.root_mean_squared_error, (said, wanted)),
        "spearman": (number_measures.spearman, (said, wanted)),
    }
    found = {key: measure(*pair) for key, (measure, pair) in pairs.items()}
    if full:
        for key, (measure, pair) in pairs.items():
            found[f"{key}_low"], found[f"{key}_high"] = number_measures.interval(measure, *pair)
        if (between := target.intervals(values)) is not None:
            low, high = (edge[there, place] for edge in between)
            found["covered"] = float(((low <= wanted) & (wanted <= high)).mean())
    return found
