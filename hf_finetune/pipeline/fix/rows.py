"""Rows that features are known of: taken out, given other labels, added to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hf_finetune.errors import DataError
from hf_finetune.labels import Label, LabelColumn
from hf_finetune.run.features_file import KeptRows

ONE_OF = {"classes": "class", "labels": "label", "grades": "grade", "numbers": "number"}


@dataclass(frozen=True)
class Rows:
    """Names, labels int64 [N] or float32 [N, K], units int64 [N] and features float32 [N, d] of a split."""

    names: tuple[str, ...]
    labels: np.ndarray
    units: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, kept: KeptRows) -> Rows:
        """As the run folder has them."""
        return cls(kept.names, kept.labels, kept.units, np.asarray(kept.features[:]))

    def without(self, names: Collection[str]) -> Rows:
        """Those that bear none of these names."""
        left = np.array([name not in names for name in self.names], bool)
        return Rows(
            tuple(name for name, stays in zip(self.names, left, strict=True) if stays),
            self.labels[left],
            self.units[left],
            self.features[left],
        )

    def relabelled(self, labels: Mapping[str, Label]) -> Rows:
        """With other labels, by name."""
        changed = self.labels.copy()
        for place, name in enumerate(self.names):
            if name in labels:
                changed[place] = labels[name]
        return replace(self, labels=changed)

    def with_more(self, more: Rows) -> Rows:
        """And others behind them."""
        return Rows(
            (*self.names, *more.names),
            np.concatenate([self.labels, more.labels.astype(self.labels.dtype)]),
            np.concatenate([self.units, more.units]),
            np.concatenate([self.features, more.features]),
        )


def same_labels(one: Label, other: np.ndarray) -> bool:
    """Whether a label is the one that a row has, to what float32 keeps of it."""
    return bool(np.array_equal(np.asarray(one, other.dtype), other, equal_nan=other.dtype.kind == "f"))


def refuse_emptied(before: Rows, after: Rows, columns: Sequence[LabelColumn]) -> None:
    """Raises DataError where a class, grade or label that had training rows has none any more."""
    place = 0
    for column in columns:
        had, has = (_names_there(rows.labels, column, place) for rows in (before, after))
        if gone := sorted(had - has):
            raise DataError(
                f"fix: training rows of every {ONE_OF[column.kind]} are expected to stay, "
                f"none would be left of {', '.join(map(repr, gone[:5]))}",
                "keep some of them, add others with --add, or train again without it",
            )
        place += column.width


def refuse_unlearnt(new: Sequence[str], names: Sequence[str], train: Rows) -> None:
    """Raises DataError for new classes without a training row."""
    if lacking := [name for name in new if names.index(name) not in train.labels]:
        raise DataError(
            f"fix: training rows of the new class {lacking[0]!r} are expected, found none",
            "add readable images of it: --add FOLDER, or lines of the table that relabel files or rows of train",
        )


def _names_there(labels: np.ndarray, column: LabelColumn, place: int) -> set[str]:
    if column.kind == "numbers":
        return set()
    own = labels[:, None] if labels.ndim == 1 else labels[:, place : place + column.width]
    if column.kind == "labels":
        return {name for name, truth in zip(column.names, own.T, strict=True) if (truth == 1).any()}
    return {column.names[int(each)] for each in np.unique(own[~np.isnan(own.astype(np.float64))])}
