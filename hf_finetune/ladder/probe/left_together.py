"""Which of the kept rows are left out together: those of one group, and byte-equal ones. A row's sibling would answer
for it, and what is chosen or calibrated by left-out rows would promise too much for a patient whom nobody has seen.

Owns their order and who holds them; leaving them out is ridge.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.machine.processes import gather
from hf_finetune.machine.ranks import rank, world_size

# Rows that are left out at once, at most: the system that is solved is as large. A larger unit goes in parts.
MOST_TOGETHER = 1_000


@dataclass(frozen=True)
class Run:
    """Kept rows from `start` to `stop`: units of `size` rows each, one after another."""

    start: int
    stop: int
    size: int

    def parts(self, rows: int, step: int = 1) -> Iterator[np.ndarray | slice]:
        """Where the rows of every `step`-th unit are, about so many rows at a time and no unit torn."""
        units = np.arange(self.start, self.stop, self.size * step)
        at_once = max(1, rows // self.size)
        for first in range(0, len(units), at_once):
            some = units[first : first + at_once]
            if step == 1:
                yield slice(int(some[0]), int(some[-1]) + self.size)
            else:
                yield (some[:, None] + np.arange(self.size)).ravel()


def side_by_side(kept: SplitFeatures, units: np.ndarray | None) -> tuple[SplitFeatures, tuple[Run, ...]]:
    """This process's rows with those of a unit beside each other, and each unit's on one process.

    units int64 [N] of the whole split: rows of one number are together, −1 is alone (None: all are). Where none are, or
    all rows are in one, the rows are as they were, each by itself.
    """
    alone = (Run(0, len(kept.rows), 1),)
    if units is None or not np.any(units >= 0):
        return kept, alone
    block, sizes = _blocks(units)
    if len(sizes) in (1, len(units)):
        return kept, alone
    rows, features = kept.rows, kept.features
    if world_size() > 1:
        rows, features = _shared_out(rows, features, block, sizes[block] > 1)
    order = np.lexsort((rows, block[rows], sizes[block[rows]]))
    rows, features = rows[order], features[order]
    edges = np.flatnonzero(np.diff(sizes[block[rows]], prepend=0, append=0))
    runs = [Run(int(a), int(b), int(sizes[block[rows[a]]])) for a, b in pairwise(edges)]
    return replace(kept, rows=rows, features=features, hidden=None), tuple(runs)


def _blocks(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left out together, by number: int64 [N] of each row, and how many rows each has."""
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(unit, kind="stable")
    within = np.empty(len(units), np.int64)  # which of its unit's rows a row is
    within[order] = np.arange(len(units)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    part = np.where(units < 0, within, within // MOST_TOGETHER)
    _, block, counts = np.unique(unit * len(units) + part, return_inverse=True, return_counts=True)
    return block, counts


def _shared_out(
    rows: np.ndarray, features: np.ndarray, block: np.ndarray, together: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are alone stay where they are; the others go to the process that their block's number falls to."""
    mine = together[rows]
    found = [(rows[~mine], np.array(features[~mine]))]
    for theirs, their_features in gather((rows[mine], np.array(features[mine]))):
        taken = block[theirs] % world_size() == rank()
        found.append((theirs[taken], their_features[taken]))
    found = [each for each in found if len(each[0])] or found[:1]  # the features of no rows have no width
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])
