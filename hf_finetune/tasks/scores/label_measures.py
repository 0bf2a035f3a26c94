"""The formulas of multi-label metrics, on numpy arrays. N is the number of rows, C of labels; NaN is not known."""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Σ (Rₙ − Rₙ₋₁) Pₙ over falling scores [N], ties together, as scikit-learn's `average_precision_score`; NaN where
    no row of truth [N] is 1."""
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    if not truth.sum():
        return float("nan")
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last row of each score
    hits = np.cumsum(truth)[ends]
    precision, recall = hits / (ends + 1), hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def f1(said: np.ndarray, truth: np.ndarray) -> float:
    """2·hits / (said + true), 0 where both are none; over all entries of what is given."""
    total = said.sum() + truth.sum()
    return float(2 * (said * truth).sum() / total) if total else 0.0


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of scores [N] with the largest F1 on truth [N], half way between two of them; .5 where no row or
    every row is 1 (nothing tells one threshold from another)."""
    if not 0 < truth.sum() < len(truth):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(truth[order])
    quality = 2 * hits / (np.arange(1, len(scores) + 1) + hits[-1])
    quality[np.append(np.diff(falling) == 0, False)] = -1  # between equal scores is no threshold
    at = int(quality.argmax())
    below = falling[at + 1] if at + 1 < len(falling) else 0.0
    return float((falling[at] + below) / 2)
