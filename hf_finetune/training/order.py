"""The order of training rows: drawn per epoch, the same on every process and after a resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from hf_finetune.training.objective import Batch


class BatchRows(Protocol):
    """A dataset that gathers a whole batch of rows at once for an epoch.

    Index r + k · N of N rows is the k-th repetition of row r: the same image, whose augmentation is drawn anew.
    """

    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
    def __getitems__(self, indices: Sequence[int]) -> Batch: ...


class DrawnUpdates(Dataset[Batch]):
    """Positions 0 … L−1 of an epoch as rows in a random order, L the largest multiple of `batch`.

    The Trainer walks through the positions in sequence, so that the order depends only on the seed and the epoch, not
    on the sampler, the number of processes or where a resumed run starts. The rows left over differ in every epoch.
    `classes` int64 [N]: an epoch takes as many rows of each class (`balanced_order`); None: every row once.
    """

    def __init__(self, rows: BatchRows, batch: int, seed: int, classes: np.ndarray | None = None) -> None:
        self._rows = rows
        self._length = len(rows) // batch * batch
        self._seed = seed
        self._classes = classes
        self.set_epoch(0)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch."""
        self._rows.set_epoch(epoch)
        random = np.random.default_rng((self._seed, epoch))
        if self._classes is None:
            self._order = random.permutation(len(self._rows))
        else:
            self._order = balanced_order(self._classes, random)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        return self._rows.__getitems__(self._order[np.asarray(positions)].tolist())


def balanced_order(classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """int64 [N] of the rows' `classes` int64 [N]: N draws in random order, as many of each class that has rows (one
    more of some where N is no multiple). Class-balanced sampling (Kang et al. 2020, arXiv 1910.09217, q = 0).

    Within a class every row is drawn equally often, but for one: a class of more rows than its part of the epoch gives
    a random choice of them, one of fewer repeats them. The k-th repetition of row r is r + k · N (see BatchRows).
    """
    rows = len(classes)
    _, sizes = np.unique(classes, return_counts=True)
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])
    parts = np.full(len(sizes), rows // len(sizes))
    parts[random.permutation(len(sizes))[: rows % len(sizes)]] += 1
    drawn = []
    for own, part in zip(by_class, parts.tolist(), strict=True):
        repeats = range(-(-part // len(own)))
        drawn.append(np.concatenate([random.permutation(own) + repeat * rows for repeat in repeats])[:part])
    return random.permutation(np.concatenate(drawn))


def as_batch(batch: Batch) -> Batch:
    """The collator: rows arrive as a batch already."""
    return batch
