"""What every kind of task can say of itself and of its scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_finetune.report.tables import escape, markdown_table
from hf_finetune.units import format_quantity

QUANTITY = "quantity"  # a form: of numbers that may be prices or lengths
Score = Mapping[str, Any]
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Figure:
    """A metric: its key in a score, its name, how it is written, and the metric's id on the Hub ("": none)."""

    key: str
    name: str
    form: str = ".3f"
    unit: str = ""
    hub: str = ""

    def text(self, value: float) -> str:
        """`0.918`, `90.5 %`, `1,250 EUR`."""
        return f"{self._number(value)}{self.unit and ' '}{self.unit}"

    def interval(self, score: Score) -> str:
        """`87.7 to 93.3 %`; empty where the score has none."""
        if f"{self.key}_low" not in score:
            return ""
        return f"{self._number(score[f'{self.key}_low'])} to {self.text(score[f'{self.key}_high'])}"

    def said(self, score: Score) -> str:
        """`90.5 % (95 % interval 87.7 to 93.3 %, 431 images)`.

        Where every image is right or every one wrong, resampling has nothing to vary; the rule of three (Hanley &
        Lippman-Hand 1983) is given instead of an interval of no width.
        """
        value, rows = score[self.key], score["rows"]
        images = f"{rows:,} image{'s' * (rows != 1)}"
        if self.key == "accuracy" and value in (0.0, 1.0):
            bound = min(100.0, 300 / rows)
            digits = 1 if bound >= 0.1 else 1 - math.floor(math.log10(bound))  # of 9,000 images 0.033, not 0.0
            limit = f"at least {100 - bound:.{digits}f} %" if value else f"at most {bound:.{digits}f} %"
            return f"{self.text(value)} ({images}, so {limit} by the rule of three)"
        between = self.interval(score)
        return f"{self.text(value)} ({f'95 % interval {between}, ' if between else ''}{images})"

    def _number(self, value: float) -> str:
        if self.form == QUANTITY:
            return format_quantity(value)
        return f"{100 * value if self.unit == '%' else value:{self.form}}"


@dataclass(frozen=True)
class Plotted:
    """A number: its title, and the columns of predictions.csv that have it; `log`: its logarithm is learnt."""

    title: str
    true: str
    predicted: str
    log: bool


class Words(ABC):
    """`figures`: the metrics in their order, the one that stands for all first; `task` as `Target.settings` has it."""

    figures: tuple[Figure, ...]

    def __init__(self, task: Mapping[str, Any], outputs: tuple[str, ...]) -> None:
        self.task, self.outputs = task, outputs

    @property
    def first(self) -> Figure:
        """The metric that stands for all."""
        return self.figures[0]

    @property
    @abstractmethod
    def size(self) -> str:
        """`6 classes`."""

    @property
    @abstractmethod
    def purpose(self) -> str:
        """What the model was made to do: `to tell 6 classes of images apart`."""

    @abstractmethod
    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        """Python that prints what `logits` float [1, C] say, as hf_finetune says it, where `torch` is there; `task` and
        `names` are the expressions for what the result keeps of it."""

    @abstractmethod
    def limit(self) -> str:
        """What it answers for an image unlike all of training."""

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        """Rows of a summary below the first figure."""
        del weakest_shown
        more = [f"{each.name} {each.text(score[each.key])}" for each in self.figures[1:] if each.key in score]
        return [("also", ", ".join(more))]

    def sections(self, score: Score) -> list[str]:
        """Parts of a model card below the table of metrics, as Markdown."""
        del score
        return []

    def coarse(self, score: Score) -> str:
        """A sentence where a part of the figures was measured on few images; else empty."""
        del score
        return ""

    def names(self) -> str:
        """The model card's part on what the model's outputs are called."""
        rows = [[str(number), escape(name)] for number, name in enumerate(self.outputs)]
        return f"## Labels\n\n{markdown_table(['id', 'name'], rows, texts=2)}"

    def plotted(self) -> list[Plotted]:
        """The numbers whose predictions are drawn against the truth, if any."""
        return []

    def error(self, row: Mapping[str, str]) -> float:
        """How far a row of predictions.csv is from right: 0 is right."""
        return float(row["predicted"] != row["label"])

    @property
    def better(self) -> str:
        """What the better of two models does on a row."""
        return "is right"


def listed(words: Iterable[str], most: int = 3) -> str:
    """`a, b, …`."""
    names = list(words)
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def weakest(table: Mapping[str, Mapping[str, Any]], most: int) -> list[tuple[str, Mapping[str, Any]]]:
    """The `most` rows with the lowest F1 of those that occur, the lowest first."""
    there = [(name, row) for name, row in table.items() if row["support"] > 0]
    return sorted(there, key=lambda entry: entry[1]["f1"])[:most]


def weakest_row(table: Mapping[str, Mapping[str, Any]], most: int) -> Rows:
    """For a summary."""
    weak = [(name, row["f1"]) for name, row in weakest(table, most) if row["f1"] < 1]
    if len(table) <= 2 or not weak:
        return []
    return [("weakest", ", ".join(f"{name} (F1 {f1:.2f})" for name, f1 in weak))]


def f1_table(
    table: Mapping[str, Mapping[str, Any]], what: tuple[str, str], columns: Sequence[tuple[str, str]], most: int = 50
) -> list[str]:
    """For a card: one row each of `table`, or of the weakest; `what` they are, one and several."""
    many = len(table) > most
    chosen = weakest(table, most) if many else list(table.items())
    rows = [
        [
            escape(name),
            *("" if row[key] is None else f"{row[key]:.3f}" for key, _ in columns),
            f"{row['support']:,}",
        ]
        for name, row in chosen
    ]
    heading = f"### The {len(rows)} weakest of {len(table):,} {what[1]}" if many else f"### By {what[0]}"
    return [heading, markdown_table([what[0], *(name for _, name in columns), "images"], rows)]
