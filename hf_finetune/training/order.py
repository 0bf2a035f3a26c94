"""The order of training rows: shuffled per epoch, the same on every process and after a resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from hf_finetune.training.objective import Batch


class BatchRows(Protocol):
    """A dataset that gathers a whole batch of rows at once for an epoch."""

    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
    def __getitems__(self, indices: Sequence[int]) -> Batch: ...


class ShuffledUpdates(Dataset[Batch]):
    """Positions 0 … L−1 of an epoch as rows in a shuffled order, L the largest multiple of `batch`.

    The Trainer walks through the positions in sequence, so that the order depends only on the seed and the epoch, not
    on the sampler, the number of processes or where a resumed run starts. The rows left over differ in every epoch.
    """

    def __init__(self, rows: BatchRows, batch: int, seed: int) -> None:
        self._rows = rows
        self._length = len(rows) // batch * batch
        self._seed = seed
        self.set_epoch(0)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Called before every epoch."""
        self._rows.set_epoch(epoch)
        self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self._rows))

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        return self._rows.__getitems__(self._order[np.asarray(positions)].tolist())


def as_batch(batch: Batch) -> Batch:
    """The collator: rows arrive as a batch already."""
    return batch
