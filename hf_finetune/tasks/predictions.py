"""What a model says of one image, a type for each kind of task. Light: no torch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_finetune.units import format_quantity


@dataclass(frozen=True, kw_only=True)
class Prediction(ABC):
    """`clipped`: how many values of a high-bit grey image lay beyond the range that the run was trained with.
    `distance`: how far the image is from those of training, 1 being what 19 of 20 like them do not exceed; None: not
    known."""

    clipped: int = field(default=0, repr=False)
    distance: float | None = field(default=None, repr=False)

    @property
    def unlike(self) -> bool:
        """Whether the image is further from those of training than 19 of 20 like them are."""
        return self.distance is not None and self.distance > 1

    @abstractmethod
    def text(self, top: int = 1) -> str:
        """For a terminal; `top`: how many labels to show where they have an order."""

    @abstractmethod
    def as_json(self, top: int = 1) -> dict[str, Any]:
        """As JSON's own types."""

    @abstractmethod
    def as_row(self, top: int = 1, name: str = "") -> dict[str, str | float]:
        """As cells of a table by their columns; `name`: of the target, where there are several. Lists are JSON. The
        columns are the same for every image of a result."""


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """One of several classes or grades: the one that is said and its probability, and all of them in label order.

    `among`: the classes that together hold the right one of as many images as the run's sets promise (`coverage`, as
    .9); it may be empty, where none is likely enough. None: the result was not calibrated.
    """

    label: str
    probability: float
    probabilities: tuple[float, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    among: tuple[str, ...] | None = field(default=None, repr=False)

    def text(self, top: int = 1) -> str:
        return "  ".join(f"{name} {share:.3f}" for name, share in self._ranked(top))

    def as_json(self, top: int = 1) -> dict[str, Any]:
        ranked = [{"label": name, "probability": round(share, 6)} for name, share in self._ranked(top)]
        return {"predictions": ranked} | ({} if self.among is None else {"among": list(self.among)})

    def as_row(self, top: int = 1, name: str = "") -> dict[str, str | float]:
        """`label`, `probability`, those that follow with a number, and `among` where there are sets."""
        row = _ranked_cells(self._ranked(top), name)
        return row | ({} if self.among is None else {_of(name, "among"): _listed(self.among)})

    def _ranked(self, top: int) -> list[tuple[str, float]]:
        pairs = sorted(zip(self.names, self.probabilities, strict=True), key=lambda pair: -pair[1])
        first = [pair for pair in pairs if pair[0] == self.label]  # the median grade need not be the likeliest
        return (first + [pair for pair in pairs if pair[0] != self.label])[: max(1, top)]


@dataclass(frozen=True)
class LabelsPrediction(Prediction):
    """Any number of labels: those whose probability reaches their threshold, and all probabilities in label order."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    def text(self, top: int = 1) -> str:
        return "  ".join(f"{name} {share:.3f}" for name, share in self._shown(top)) or "(no label)"

    def as_json(self, top: int = 1) -> dict[str, Any]:
        shown = [{"label": name, "probability": round(share, 6)} for name, share in self._shown(top)]
        return {"labels": list(self.labels), "predictions": shown}

    def as_row(self, top: int = 1, name: str = "") -> dict[str, str | float]:
        """`labels`, all that are given; and the likeliest, given or not, as `label`, `probability`, `label_2` …"""
        pairs = sorted(zip(self.names, self.probabilities, strict=True), key=lambda pair: -pair[1])
        return {_of(name, "labels"): _listed(self.labels), **_ranked_cells(pairs[: max(1, top)], name)}

    def _shown(self, top: int) -> list[tuple[str, float]]:
        """Those that are given, and the likeliest others up to `top`."""
        pairs = sorted(zip(self.names, self.probabilities, strict=True), key=lambda pair: -pair[1])
        given = [pair for pair in pairs if pair[0] in self.labels]
        others = [pair for pair in pairs if pair[0] not in self.labels] if top > 1 else []
        return given + others[: max(0, top - len(given))]


@dataclass(frozen=True)
class NumberPrediction(Prediction):
    """Numbers by name, in `unit`; `low` and `high` are the ends of their 90 % intervals, None where there are none."""

    values: Mapping[str, float]
    low: Mapping[str, float] | None = None
    high: Mapping[str, float] | None = None
    unit: str | None = None

    @property
    def value(self) -> float:
        """The only number. Raises ValueError where there are several."""
        (value,) = self.values.values()
        return value

    def text(self, top: int = 1) -> str:
        del top
        several = len(self.values) > 1
        return "  ".join(f"{name} " * several + self._said(name) for name in self.values)

    def _said(self, name: str) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.low is None or self.high is None:
            return f"{format_quantity(self.values[name])}{unit}"
        low, high = (format_quantity(edge[name]) for edge in (self.low, self.high))
        return f"{format_quantity(self.values[name])}{unit} (90 %: {low} to {high})"

    def as_json(self, top: int = 1) -> dict[str, Any]:
        del top
        said: dict[str, Any] = {"values": dict(self.values)}
        if self.low is not None and self.high is not None:
            said |= {"low": dict(self.low), "high": dict(self.high)}
        return said | ({"unit": self.unit} if self.unit else {})

    def as_row(self, top: int = 1, name: str = "") -> dict[str, str | float]:
        """Each number under its own name, and the ends of its interval as `NAME low` and `NAME high`."""
        del top
        row: dict[str, str | float] = {}
        for own, value in self.values.items():
            column = own if own == name else _of(name, own)
            row[column] = value
            if self.low is not None and self.high is not None:
                row |= {f"{column} low": self.low[own], f"{column} high": self.high[own]}
        return row


@dataclass(frozen=True)
class TargetsPrediction(Prediction):
    """Several targets: what is said of each, by name."""

    targets: Mapping[str, Prediction]

    def text(self, top: int = 1) -> str:
        return "; ".join(f"{name}: {each.text(top)}" for name, each in self.targets.items())

    def as_json(self, top: int = 1) -> dict[str, Any]:
        return {"targets": {name: each.as_json(top) for name, each in self.targets.items()}}

    def as_row(self, top: int = 1, name: str = "") -> dict[str, str | float]:
        """The columns of each target, with its name before them."""
        del name
        return {key: cell for target, each in self.targets.items() for key, cell in each.as_row(top, target).items()}


def _of(name: str, column: str) -> str:
    return f"{name} {column}" if name else column


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _ranked_cells(pairs: Sequence[tuple[str, float]], name: str) -> dict[str, str | float]:
    """`label` (a target's own name where there are several), `probability`, `label_2`, `probability_2` …"""
    row: dict[str, str | float] = {}
    for place, (label, share) in enumerate(pairs, 1):
        number = f"_{place}" if place > 1 else ""
        row |= {f"{name or 'label'}{number}": label, f"{_of(name, 'probability')}{number}": round(share, 6)}
    return row
