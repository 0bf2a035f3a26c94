"""Images that are unlike all others: far from their nearest neighbours, as a frozen backbone sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

_NEIGHBOURS = 5
_MOST_REFERENCES = 10_000  # rows that all are compared with; a part of the rows beyond that
_BLOCK = 256  # rows that are compared at once: 10 MB of cosines
_LEAST_ROWS = 20  # with fewer nothing is known of how far apart they usually are


@dataclass(frozen=True)
class Directions:
    """Rows' features as directions, standardised by all, in pieces; compared with `references` [R, d], which are the
    rows numbered `every` [R]."""

    features: Sequence[np.ndarray]
    every: np.ndarray
    references: torch.Tensor
    mean: torch.Tensor
    inverse: torch.Tensor

    @staticmethod
    def of(features: Sequence[np.ndarray]) -> Directions:
        """Of all rows of several arrays float32 [n, d], one after another."""
        count = sum(map(len, features))
        every = np.linspace(0, count - 1, min(count, _MOST_REFERENCES)).astype(np.int64)
        references = torch.from_numpy(_take(features, every))
        mean, deviation = references.mean(0), references.std(0)
        inverse = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, torch.zeros_like(deviation))
        return Directions(features, every, functional.normalize((references - mean) * inverse, dim=1), mean, inverse)

    def similar(self) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Row numbers int64 [n], and their cosines [n, R] with the references, −1 with themselves. The cosines' place
        is the next ones' too."""
        count, every = sum(map(len, self.features)), self.every
        held = torch.empty(_BLOCK, len(every))
        for start in range(0, count, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, count))
            features = torch.from_numpy(_take(self.features, rows))
            directions = functional.normalize((features - self.mean) * self.inverse, dim=1)
            similar = torch.mm(directions, self.references.T, out=held[: len(rows)])
            place = np.searchsorted(every, rows)
            itself = (place < len(every)) & (every[np.minimum(place, len(every) - 1)] == rows)
            similar[np.flatnonzero(itself), place[itself]] = -1.0
            yield rows, similar


@dataclass(frozen=True)
class Neighbours:
    """Of each row: `distance` float32 [N], cosine distance to its fifth nearest reference, NaN where there are too few
    rows; `nearest` int64 [N], the nearest reference of its class, −1 without one."""

    distance: np.ndarray
    nearest: np.ndarray


def neighbours(directions: Directions, classes: np.ndarray | None) -> Neighbours:
    """In one comparison of all rows; `classes` int64 [N] (None: all are of one)."""
    count = sum(map(len, directions.features))
    distance, nearest = np.full(count, np.nan, np.float32), np.full(count, -1, np.int64)
    for rows, similar in directions.similar():
        if count >= _LEAST_ROWS:
            distance[rows] = 1 - similar.topk(_NEIGHBOURS, dim=1).values[:, -1].numpy()
        if classes is not None:
            other = torch.from_numpy(classes[rows][:, None] != classes[directions.every][None])
            similar.masked_fill_(other, -1.0)
        best, place = similar.max(dim=1)
        nearest[rows] = np.where(best.numpy() > -1.0, directions.every[place.numpy()], -1)
    return Neighbours(distance, nearest)


def _take(features: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Rows by number over all arrays, ascending."""
    parts, start = [], 0
    for array in features:
        own = rows[(rows >= start) & (rows < start + len(array))] - start
        parts.append(np.array(array[own], np.float32))
        start += len(array)
    return np.concatenate(parts)
