"""Cuts rows into folds for cross-validation: what belongs together in one fold, classes as even as that allows.

The same rows and seed give the same folds, in whatever order the rows were found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hf_finetune.data.index.splits import drawn
from hf_finetune.data.sources.source import count
from hf_finetune.errors import DataError
from hf_finetune.types import Row

# What even sizes of the folds count beside even classes, where units are large: 49 zip codes of up to 100 of 535 houses
# make folds of 98 to 133 rows with it, of 89 to 148 at 1, and spread tenths of the price hardly better there.
_WHOLE = 4.0


def cut_folds(rows: Sequence[Row], strata: Sequence[int], folds: int, seed: int, key: str = "--folds") -> np.ndarray:
    """int64 [N]: the fold of each row, 0 to `folds` − 1, none of them empty. `strata`: each row's class, or what stands
    for one. `key`: what asks for them.

    The largest units first, each goes where least of its classes is (and, of several rows, least of everything).
    Raises DataError where there are fewer units than folds.
    """
    units = _units(rows, strata, seed)
    if folds > len(units):
        grouped = len(units) < len(rows)
        what = count(len(rows), "row") + (f" in {count(len(units), 'group')}" if grouped else "")
        raise DataError(
            f"{key}: no more folds than {'groups of ' * grouped}rows are expected, found {folds} for {what}",
            f"lower it to {len(units)}" if len(units) > 1 else "a fold needs a group of its own: add images",
        )
    classes, class_of = np.unique(np.asarray(strata), return_inverse=True)
    there, total = np.zeros((folds, len(classes))), np.zeros(folds)  # rows of each fold
    sizes = np.bincount(class_of, minlength=len(classes))
    fold_of = np.zeros(len(rows), np.int64)
    for unit in units:
        own, counts = np.unique(class_of[unit], return_counts=True)
        crowded = (there[:, own] / sizes[own]) @ counts
        if len(unit) > 1:
            crowded = crowded + _WHOLE * total / len(rows) * len(unit)
        fold = int(np.lexsort((total, crowded))[0])
        fold_of[unit] = fold
        there[fold, own] += counts
        total[fold] += len(unit)
    return fold_of


def _units(rows: Sequence[Row], strata: Sequence[int], seed: int) -> list[list[int]]:
    """Positions of the rows of each unit: the largest first, those of one size class by class (so that what is over of
    one class goes where nothing was over of another), and then in an order drawn from the seed."""
    joined: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        joined[row.unit, position if row.unit < 0 else 0].append(position)
    order = []
    for unit in joined.values():
        own = min((drawn(seed, rows[position].name), str(rows[position].locator)) for position in unit)
        order.append((-len(unit), min(strata[position] for position in unit), own, unit))
    return [unit for *_, unit in sorted(order)]
