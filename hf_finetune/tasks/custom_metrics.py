"""Metrics that the program which runs a training brings of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import numpy as np

from hf_finetune.errors import TrainingError
from hf_finetune.labels import Answers

logger = logging.getLogger(__name__)
Metric = Callable[[Answers, np.ndarray], float]  # answers of N rows and their labels [N] -> a finite number


def measure_custom(metrics: Mapping[str, Metric], answers: Answers, labels: np.ndarray) -> dict[str, float]:
    """Each of them by name; what is no finite number is said and left out. Raises TrainingError where one fails."""
    found = {name: _measured(name, metric, answers, labels) for name, metric in metrics.items()}
    return {name: value for name, value in found.items() if value is not None}


def _measured(name: str, metric: Metric, answers: Answers, labels: np.ndarray) -> float | None:
    """The number of copies, so that nothing that is done to them reaches the run; None where there is none."""
    try:
        value = float(metric(answers.take(np.arange(len(answers))), labels.copy()))
    except Exception as error:
        raise TrainingError(
            f"metrics[{name!r}] raised {type(error).__name__}: {error}.", "Mend that function."
        ) from error
    if math.isfinite(value):
        return value
    logger.warning("metrics[%r] is %s here, and left out: no finite number.", name, value)
    return None
