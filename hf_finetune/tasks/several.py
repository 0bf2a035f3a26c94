"""Several targets at once, a column each: the recipe's `task` section, and what it is settled to.

One adapter, and outputs side by side. A row that lacks a target counts for the others: its part of the loss is 0, and
the metrics of that target leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hf_finetune.errors import DataError
from hf_finetune.labels import Labels, Reading
from hf_finetune.section import Section
from hf_finetune.tasks.kinds import One, kind_of_one, settled_one
from hf_finetune.tasks.several_target import SeveralTarget, Single
from hf_finetune.types import SPLITS, Index, Row, Split

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _as_section(value: object) -> object:
    """`regression`, nothing, or keys without a kind."""
    if value is None or isinstance(value, str):
        return {"kind": value or "auto"}
    if isinstance(value, Mapping) and "kind" not in value:
        return {"kind": kind_of_one(value), **value}
    return value


class Several(Section):
    """Several targets at once: a label and a number, or two labels."""

    kind: Literal["several"] = "several"
    targets: dict[str, Annotated[One, BeforeValidator(_as_section)]] = Field(
        min_length=2, description="by column: a kind of task, or its keys; such as {price: {log: true}, style: auto}"
    )
    weights: dict[str, Weight] = Field(
        default_factory=dict, description="what a target counts in the loss beside the others, by column; 1 unless said"
    )

    @property
    def reading(self) -> Reading:
        """Each column as its own task reads it."""
        return Reading(columns={name: task.reading for name, task in self.targets.items()})

    def settled(self, index: Index) -> Several:
        """With the tasks that the labels ask for."""
        chosen = {
            name: settled_one(task, _alone(index, place)) for place, (name, task) in enumerate(self.targets.items())
        }
        return self.model_copy(update={"targets": chosen})

    def settle(self, index: Index) -> SeveralTarget:
        """Raises DataError as the targets' own do, and where a target is known in no row of a split."""
        if unknown := self.weights.keys() - self.targets.keys():
            raise DataError(
                f"task.weights: targets are expected, found {', '.join(sorted(unknown))}.",
                f"Name some of {', '.join(self.targets)}.",
            )
        found: list[Single] = []
        for place, (name, task) in enumerate(self.targets.items()):
            alone = _alone(index, place)
            for split, rows in alone.splits.items():
                if index.splits.get(split) and not rows:
                    raise DataError(
                        f"task.targets.{name}: rows that have it are expected in {split}, found none.",
                        "Leave that target out, or check its column.",
                    )
            column = index.columns[place]
            target = settled_one(task, alone).settle(alone)
            found.append(Single(name, target, column.kind, column.width, self.weights.get(name, 1.0)))
        return SeveralTarget(tuple(found))


def _alone(index: Index, place: int) -> Index:
    """The index with one of its columns, and the rows that have it."""
    column = index.columns[place]
    start = sum(each.width for each in index.columns[:place])

    def own(rows: Sequence[Row]) -> tuple[Row, ...]:
        found: list[Row] = []
        for row in rows:
            label = (float(row.label),) if isinstance(row.label, int) else row.label[start : start + column.width]
            if not all(map(math.isnan, label)):
                whole = column.kind in ("classes", "grades")
                found.append(replace(row, label=int(label[0]) if whole else label))
        return tuple(found)

    splits: dict[Split, tuple[Row, ...]] = {split: own(index.splits.get(split, ())) for split in SPLITS}
    return replace(index, columns=(column,), splits=splits, labels=Labels(column.names))
