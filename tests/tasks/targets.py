"""Indexes whose rows have labels and nothing else: what a task settles on."""

from __future__ import annotations

from collections.abc import Sequence

from hf_finetune.labels import LabelColumn, LabelKind, Labels
from hf_finetune.types import Index, Row, Split


def index_with(labels: Sequence[int | tuple[float, ...]], names: Sequence[str], kind: LabelKind = "numbers") -> Index:
    """All rows in train."""
    columns = (LabelColumn("label", kind, tuple(names)),)
    rows = tuple(Row(f"row{number}.png", label, number) for number, label in enumerate(labels))
    splits: dict[Split, tuple[Row, ...]] = {"train": rows}
    return Index("memory", "r", None, None, Labels(tuple(names)), splits, (), (), (), None, columns=columns)  # pyright: ignore[reportArgumentType]
