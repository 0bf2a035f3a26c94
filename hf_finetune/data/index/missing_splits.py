"""The splits that a dataset does not give, cut from train as the recipe says: by shares, or a fold for the test.

Owns which splits those are and what train keeps; how rows are drawn is `splits.py`'s and `folds.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_finetune.data.config import Data
from hf_finetune.data.index import splits
from hf_finetune.data.index.folds import cut_folds
from hf_finetune.data.index.targets import Encoded, Labelled
from hf_finetune.data.index.together import Together
from hf_finetune.data.sources.source import count
from hf_finetune.types import SPLITS, Note, Split


def cut_missing(
    encoded: Encoded, together: Together, config: Data, seed: int
) -> tuple[Mapping[Split, Sequence[Labelled]], tuple[Split, ...], list[Note]]:
    """All splits, the names of those that were cut from train, and notes. Raises DataError."""
    rows = dict(encoded.rows)
    own_seed = seed if config.split_seed is None else config.split_seed
    shares: dict[Split, float] = {"validation": config.validation_share, "test": config.test_share}
    notes: list[Note] = []
    fold: set[int] = set()  # positions in train
    if config.fold is not None:
        shares["test"] = 0
        if given := rows.pop("test", None):
            notes.append(Note(f"the given test split ({count(len(given), 'row')}) is not used: the test is a fold"))
        fold = _fold(encoded, together, config.fold, own_seed)
    others = [number for number in range(len(rows["train"])) if number not in fold]
    train = [rows["train"][number] for number in others]
    joined = {number for unit in together.units for number in unit}
    # Train comes first in what is together.
    place = {number: position for position, number in enumerate(others) if number in joined}
    units = [[place[number] for number in unit if number in place] for unit in together.units]
    shares = {split: share for split, share in shares.items() if split not in rows and share > 0}
    strata = encoded.strata(train)
    parts, cut_notes = splits.cut(train, strata, shares, [unit for unit in units if unit], own_seed, together.key)
    if fold:
        parts["test"] = [rows["train"][number] for number in sorted(fold)]
    if config.shots is not None:  # after the cut, which is then the same for any number of them
        parts["train"], few = splits.few_of_each(parts["train"], encoded, config.shots, seed)
        cut_notes += few
    cut: tuple[Split, ...] = tuple(split for split in SPLITS[1:] if split in parts)
    return {**rows, **parts}, cut, notes + cut_notes


def _fold(encoded: Encoded, together: Together, fold: str, seed: int) -> set[int]:
    """Positions in train of the rows of fold `2/5`. Raises DataError."""
    wanted, folds = map(int, fold.split("/"))
    train = encoded.rows["train"]
    fold_of = cut_folds(together.rows(train), encoded.strata(train)[0], folds, seed, "data.fold")
    return set(np.flatnonzero(fold_of == wanted - 1).tolist())
