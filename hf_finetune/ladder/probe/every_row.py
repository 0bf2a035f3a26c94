"""Training and validation rows as one: the final head is fitted on all that is labelled, and yet every row is answered
by a head that was not fitted on it.

Owns how rows are put together and dealt into folds; fitting is heads.py's, and what is chosen by it rung.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from hf_finetune.ladder.probe.feature_cache import SplitFeatures

# Folds of logistic regression, of which each is a descent of its own.
FOLDS = 5
# Rows × features × classes whose folds are fitted: of those, each takes up to a second (logistic.py).
MOST_CROSS_FITTED = 30_000_000


@dataclass(frozen=True)
class Stacked:
    """Matrices float32 [n, d] one upon another, of which only the rows that are asked for are in memory."""

    parts: Sequence[np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(len(part) for part in self.parts), max(part.shape[1] for part in self.parts)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        wanted = np.arange(self.shape[0])[rows]
        found = np.empty((len(wanted), self.shape[1]), np.float32)
        start = 0
        for part in self.parts:
            here = (wanted >= start) & (wanted < start + len(part))
            if here.any():
                own = wanted[here] - start
                between = own[0] + len(own) == own[-1] + 1 and bool((np.diff(own) == 1).all())
                found[here] = part[own[0] : own[-1] + 1] if between else part[own]
            start += len(part)
        return found


def together(train: SplitFeatures, validation: SplitFeatures, count: int) -> SplitFeatures:
    """This process's rows of both splits as those of one, validation's numbered from `count` on, the rows of train."""
    rows = np.concatenate([train.rows, validation.rows + count])
    # Heads take some thousand rows of it at a time, as they would of an array.
    features = cast("np.ndarray", Stacked((train.features, validation.features)))
    return SplitFeatures(rows, features, None, None)


def deal(units: np.ndarray, labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The fold of each row, int64 [N]; units int64 [N]: rows of one number share a fold, −1 is alone.

    labels [N, …], places float [N]: a number of each row's features. By class and place they are dealt in turn, so that
    each fold has its share of everything, and the same rows are dealt alike in whatever order they come.
    """
    classes = labels if labels.ndim == 1 else np.zeros(len(labels))
    together = np.where(units < 0, units.max(initial=-1) + 1 + np.arange(len(units)), units)
    order = np.lexsort((places, classes))
    _, first, number = np.unique(together[order], return_index=True, return_inverse=True)
    dealt = np.empty(len(first), np.int64)
    dealt[np.argsort(first)] = np.arange(len(first)) % FOLDS
    fold = np.empty(len(units), np.int64)
    fold[order] = dealt[number]
    return fold
