"""What a page tells of a split: its rows with what is true and what was said of them, the score, and the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_finetune.report.wording import Words, words_for

Line = Sequence[str]


@dataclass(frozen=True)
class Images:
    """The images of N rows. `gather` gives uint8 [n, 3, H, W] of some of them; `there` bool [N]: those that it can
    give."""

    gather: Callable[[np.ndarray], np.ndarray]
    there: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """N scored rows of `split`: their `names`, and `columns` and `lines` as predictions.csv has them.

    `task` and `outputs` are the result's, `score` is a full one. `labels` [N, …]: as the task takes them, None where
    only the lines are known. `losses` float [N]: the task's own. `images` None: `no_images` says why.
    """

    split: str
    task: Mapping[str, Any]
    outputs: tuple[str, ...]
    names: Sequence[str]
    columns: tuple[str, ...]
    lines: Sequence[Line]
    score: Mapping[str, Any]
    labels: np.ndarray | None = None
    losses: np.ndarray | None = None
    images: Images | None = None
    no_images: str = ""

    @property
    def words(self) -> Words:
        """As summary and card put it."""
        return words_for(self.task, self.outputs)

    def column(self, name: str) -> list[str]:
        """The cells of one column."""
        at = self.columns.index(name)
        return [line[at] for line in self.lines]

    def numbers(self, name: str) -> np.ndarray:
        """float64 [N] of a column, NaN where a cell is empty."""
        return np.array([float(cell) if cell else np.nan for cell in self.column(name)])

    def targets(self) -> Iterator[tuple[str, Evidence]]:
        """Of several targets each with the rows that have it."""
        first, label = 0, 0
        for target in self.task["targets"]:
            outputs, width = tuple(target["outputs"]), target["labels"]["width"]
            columns = _columns(target["task"]["kind"], outputs)
            block = slice(first, first + len(columns))
            own = [tuple(line[block]) for line in self.lines]
            kept = np.array([any(cells) for cells in own], bool)
            labels = None if self.labels is None else self.labels[kept, label : label + width]
            yield (
                target["name"],
                replace(
                    self,
                    task=target["task"],
                    outputs=outputs,
                    names=[name for name, there in zip(self.names, kept, strict=True) if there],
                    columns=columns,
                    lines=[cells for cells, there in zip(own, kept, strict=True) if there],
                    score=self.score.get("per_target", {}).get(target["name"], {}),
                    labels=labels,
                    losses=None,
                    images=None if self.images is None else _only(self.images, np.flatnonzero(kept)),
                ),
            )
            first, label = block.stop, label + width


def _columns(kind: str, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that `Target.table` of one target has."""
    if kind == "multilabel":
        return ("labels", "predicted", *(f"probability of {name}" for name in outputs))
    if kind == "regression":
        named = [f"{name} " if len(outputs) > 1 else "" for name in outputs]
        return tuple(f"{name}{what}" for name in named for what in ("label", "predicted"))
    return ("label", "predicted", "probability")


def _only(images: Images, rows: np.ndarray) -> Images:
    """Of some of the rows, which are then counted anew."""
    return Images(lambda chosen: images.gather(rows[chosen]), images.there[rows])
