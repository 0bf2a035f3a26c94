"""The formulas of regression's metrics, on numpy arrays. N is the number of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1_000
Measure = Callable[[np.ndarray, np.ndarray], float]  # predicted and true numbers float64 [N]


def r2(predicted: np.ndarray, true: np.ndarray) -> float:
    """Coefficient of determination, as scikit-learn's `r2_score`; 0 where the truth does not vary."""
    spread = np.square(true - true.mean()).sum()
    return float(1 - np.square(predicted - true).sum() / spread) if spread > 0 else 0.0


def mean_absolute_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """In the numbers' own unit."""
    return float(np.abs(predicted - true).mean())


def root_mean_squared_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """In the numbers' own unit."""
    return float(np.sqrt(np.square(predicted - true).mean()))


def spearman(predicted: np.ndarray, true: np.ndarray) -> float:
    """Correlation of the ranks, ties at their mean, as scipy's `spearmanr`; 0 where one of them does not vary."""
    one, other = ranks(predicted), ranks(true)
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / scale) if scale > 0 else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """float64 [N] from 1 up; equal values share the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    return (ends - (sizes - 1) / 2)[group]


def interval(measure: Measure, predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval over rows (Efron & Tibshirani 1993, chapter 13), 1,000 resamples, seeded."""
    random, rows = np.random.default_rng(0), len(true)
    found = [measure(predicted[rows_], true[rows_]) for rows_ in random.integers(0, rows, (RESAMPLES, rows))]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def half_width(residuals: np.ndarray, share: float) -> float:
    """The half width of intervals that hold `share` of new rows: the ⌈(n + 1)·share⌉-th smallest of |residuals| [n] of
    rows that nothing was fitted on (split conformal prediction: Lei et al. 2018, JASA 113, section 2.2). Infinite where
    the rows are too few for that share."""
    rank = int(np.ceil((len(residuals) + 1) * share))
    return float(np.sort(np.abs(residuals))[rank - 1]) if rank <= len(residuals) else float("inf")
