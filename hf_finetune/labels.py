"""What images are labelled with, and what a model answers. Frozen; standard library and numpy, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

import numpy as np

# What labels are: one of several classes, any number of labels, numbers, one of several grades in an order.
LabelKind = Literal["classes", "labels", "numbers", "grades"]
# The id of a class or grade; else a number for each label, number or target, NaN where it is not known.
Label = int | tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """How a task wants labels to be read. `kind` None: as they look. `names`: what there is, in order, where that is
    known (grades, the labels of a result). `separator`: what stands between labels in one text. `log`: of numbers, that
    their logarithms count. `columns`: of several targets, each column's own."""

    kind: LabelKind | None = None
    names: tuple[str, ...] = ()
    separator: str | None = None
    log: bool = False
    columns: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelColumn:
    """What a label is, or one of several targets: `names` of its classes, labels, grades or numbers, in order."""

    name: str
    kind: LabelKind
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many numbers of a row's label are its."""
        return 1 if self.kind in ("classes", "grades") else len(self.names)

    @property
    def of_columns(self) -> bool:
        """Whether a table has a column for each of the names."""
        return self.kind in ("labels", "numbers") and self.width > 1 and self.name == ", ".join(self.names)

    @property
    def of_places(self) -> bool:
        """Whether the labels have no names but their places, as in lists of 0 and 1."""
        return self.kind == "labels" and self.width > 1 and self.names == tuple(map(str, range(self.width)))


def label_text(columns: Sequence[LabelColumn], label: Label | np.ndarray) -> str:
    """A row's label for people: of several targets one after another, `; ` between."""
    values = np.atleast_1d(label)
    parts, at = [], 0
    for column in columns:
        own = values[at : at + column.width]
        at += column.width
        if np.isnan(own.astype(np.float64)).all():
            parts.append("none")
        elif column.kind in ("classes", "grades"):
            parts.append(column.names[int(own[0])])
        elif column.kind == "labels":
            parts.append(", ".join(name for name, truth in zip(column.names, own, strict=True) if truth == 1) or "none")
        else:
            parts.append(", ".join(f"{each:.7g}" for each in own))
    return "; ".join(parts)


@dataclass(frozen=True)
class Labels:
    """Label names in order; the position is the id."""

    names: tuple[str, ...]

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


@dataclass(frozen=True)
class Answers:
    """What metrics and reports need of a model's logits on N rows: arrays with an entry for each row, `loss` float64
    [N] among them, NaN where a logit is not finite. What else there is depends on the task."""

    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def calibrated_loss(self) -> float | None:
        """The mean loss at the temperature that suits these rows best; None of what has no temperature.

        Training that goes on makes a model too sure, which the temperature of its result mends; what is left tells two
        models apart more finely than rights and wrongs do.
        """
        return None

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Its arrays, in the order in which its class takes them."""
        return tuple(getattr(self, each.name) for each in fields(self))

    def with_arrays(self, arrays: Sequence[np.ndarray]) -> Self:
        """Others of its kind."""
        return type(self)(*arrays)

    def take(self, rows: np.ndarray) -> Self:
        """Those of some rows, in arrays of its own."""
        return self.with_arrays([each[rows] for each in self.arrays()])

    @classmethod
    def joined(cls, parts: Sequence[Self], places: Sequence[np.ndarray] | None = None) -> Self:
        """One after another; with `places` int64 [n] of each part, every row at its place."""
        order = np.argsort(np.concatenate(places)) if places is not None else slice(None)
        columns = zip(*(part.arrays() for part in parts), strict=True)
        return parts[0].with_arrays([np.concatenate(column)[order] for column in columns])


# Of the softmax, a quarter of an octave apart; the scales, which are one through them, double every fourth.
TEMPERATURES = tuple(2 ** (-quarter / 4) for quarter in range(-8, 9))
_ENOUGH_WRONG = 10


@dataclass(frozen=True)
class ClassAnswers(Answers):
    """Of one class a row: a few numbers, however many classes there are.

    `loss`: cross-entropy in nats; `top` int64 [N, k]: class ids by falling logit, ties by rising id, so that
    `top[:, 0]` is the prediction; `confidence` float64 [N]: softmax probability of the prediction; `behind` float64
    [N]: how far the label's logit is below the largest; `tempered` float32 [N, T]: the loss at each of TEMPERATURES.
    """

    top: np.ndarray
    confidence: np.ndarray
    behind: np.ndarray
    tempered: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """int64 [N]."""
        return self.top[:, 0]

    @property
    def calibrated_loss(self) -> float | None:
        """See Answers."""
        return float(self.tempered[:, self.best_temperature].mean(dtype=np.float64))

    @property
    def best_temperature(self) -> int:
        """Which of TEMPERATURES has the least mean loss, on rows that nothing was fitted on. None below 1 where fewer
        than ten rows are wrong: nothing then says how sure is too sure."""
        losses = self.tempered.mean(axis=0, dtype=np.float64)
        if int((self.behind > 0).sum()) < _ENOUGH_WRONG:
            losses = np.where(np.array(TEMPERATURES) < 1, np.inf, losses)
        return int(losses.argmin())


@dataclass(frozen=True)
class ValueAnswers(Answers):
    """Of labels each by itself, grades, numbers, or several of these: `values` float64 [N, C], what each output says in
    its own terms, a probability or a number in its unit. `loss`: the task's own."""

    values: np.ndarray


@dataclass(frozen=True)
class TargetAnswers(Answers):
    """Of several targets: those of each, for the same rows, in `parts`. `loss`: of all together."""

    parts: tuple[Answers, ...]

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.loss, *(each for part in self.parts for each in part.arrays())

    def with_arrays(self, arrays: Sequence[np.ndarray]) -> Self:
        loss, *rest = arrays
        parts: list[Answers] = []
        for part in self.parts:
            count = len(part.arrays())
            parts.append(part.with_arrays(rest[:count]))
            rest = rest[count:]
        return replace(self, loss=loss, parts=tuple(parts))
