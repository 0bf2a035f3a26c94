"""Which numbers are reported for a split whose rows have numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_finetune.labels import ValueAnswers
from hf_finetune.tasks import measures
from hf_finetune.tasks.custom_metrics import Metric, measure_custom
from hf_finetune.tasks.scores import number_measures

Edges = tuple[np.ndarray, np.ndarray]


def score_numbers(
    names: Sequence[str],
    answers: ValueAnswers,
    labels: np.ndarray,
    *,
    log: bool,
    between: Edges | None,
    full: bool,
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """Answers and labels float [N, K] → the metrics, all plain Python values. `log`: logarithms were learnt; `between`:
    the edges of the prediction intervals, [N, K] each.

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
        name: _of_one(answers.values[:, place], true[:, place], log=log, full=full)
        | ({} if between is None or not full else _covered(true[:, place], *(edge[:, place] for edge in between)))
        for place, name in enumerate(names)
    }
    columns = [column for column in each.values() if column]
    result: dict[str, Any] = {"rows": len(answers), "loss": float(answers.loss.mean())}
    result |= {key: float(np.mean([column[key] for column in columns if key in column])) for key in columns[0]}
    if full and len(columns) > 1:
        result = {key: value for key, value in result.items() if not key.endswith(("_low", "_high"))}
        result["per_target"] = each
    return result | measure_custom(metrics, answers, np.asarray(labels))


def _of_one(values: np.ndarray, true: np.ndarray, *, log: bool, full: bool) -> dict[str, float]:
    there = ~np.isnan(true)
    if not there.any():
        return {}
    said, wanted = values[there], true[there]
    learnt = (np.log(said), np.log(wanted)) if log else (said, wanted)
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
    return found


def _covered(true: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    there = ~np.isnan(true)
    return {"covered": float(((low <= true) & (true <= high))[there].mean())} if there.any() else {}
