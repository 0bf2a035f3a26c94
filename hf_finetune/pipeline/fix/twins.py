"""Added images that are those of rows which were there already, told by their features.

The bytes of a run's own images may be gone, and byte-equal images give equal features but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hf_finetune.pipeline.fix.rows import Rows

# ‖difference‖ / ‖features‖. Of ViT-Tiny in bfloat16 on TrashNet: none for the same pixels in another batch, 1.6 % and
# more for copies of JPEG quality 95, 27 % and more for another photo. Other engines and devices may be off by a little.
NEAR = 0.01
_AT_ONCE = 1024


@dataclass(frozen=True)
class Twins:
    """How many added images look exactly like a row of train, and like one of validation, which flatters its score;
    and how many are byte-equal to an image of test."""

    train: int = 0
    validation: int = 0
    test: int = 0


def join_twins(train: Rows, known: int, validation: Rows) -> tuple[Rows, Twins]:
    """The training rows, of which those from `known` on were added, with each of these in the unit of the row that it
    looks like, so that neither tells the head what the other is when it is left out."""
    if known == len(train):
        return train, Twins()
    units, found = train.units.copy(), 0
    free = int(units.max()) + 1
    for place, twin in enumerate(_nearest(train.features[known:], train.features[:known]), known):
        if twin is None:
            continue
        found += 1
        if units[twin] < 0:
            units[twin], free = free, free + 1
        if units[place] >= 0:
            units[units == units[place]] = units[twin]
        units[place] = units[twin]
    leaked = sum(each is not None for each in _nearest(train.features[known:], validation.features))
    return replace(train, units=units), Twins(found, leaked)


def _nearest(rows: np.ndarray, others: np.ndarray) -> list[int | None]:
    """Which of `others` [n, d] each of `rows` [m, d] is the same as; None: none."""
    if not len(others):
        return [None] * len(rows)
    lengths = np.square(others, dtype=np.float64).sum(1)
    found: list[int | None] = []
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE].astype(np.float64)
        own = np.square(part).sum(1)
        squares = own[:, None] + lengths - 2 * part @ others.T.astype(np.float64)
        best = squares.argmin(1)
        # The difference of large squares says little; of the nearest it is made anew.
        apart = np.square(part - others[best]).sum(1)
        found += [int(at) if gap <= NEAR**2 * size else None for at, gap, size in zip(best, apart, own, strict=True)]
    return found
