"""One number an image, or several: the recipe's `task` section, and what it is settled to.

Numbers are standardised for the model by the training rows' mean and deviation (of their logarithms with `log`), and
said in their own unit again. A number that a row lacks (NaN) is left out of its loss and of the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hf_finetune.errors import DataError
from hf_finetune.labels import Answers, Labels, Reading, ValueAnswers
from hf_finetune.section import Section
from hf_finetune.tasks.target import NO_METRICS, Part, ProblemType, said_of, values_of
from hf_finetune.tasks.value_target import NamedTarget
from hf_finetune.types import Index

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction

LossName = Literal["mse", "l1", "huber"]
INTERVAL = 0.9  # share of new images that prediction intervals are made to cover
_LARGEST = 700.0  # above it exp is no finite number


class Regression(Section):
    """Numbers, such as a price or an age."""

    kind: Literal["regression"] = "regression"
    loss: LossName = Field(
        default="mse", description="squared error, absolute error (l1), or huber, which is between the two"
    )
    unit: str | None = Field(default=None, description="what the numbers count, for people: EUR, years")
    log: bool = Field(default=False, description="learn the logarithm: for prices, areas and counts, all above 0")

    @property
    def reading(self) -> Reading:
        """A number a column."""
        return Reading("numbers", log=self.log)

    def settle(self, index: Index) -> NumberTarget:
        """Raises DataError where the training rows' numbers cannot be learnt."""
        rows = index.splits["train"]
        numbers = np.array([row.label for row in rows], np.float64).reshape(len(rows), -1)
        names = index.columns[0].names
        if self.log and (numbers <= 0).any():
            row = int(np.argmax((numbers <= 0).any(1)))
            raise DataError(
                f"task.log: numbers above 0 are expected, found {numbers[row].min():g} in {rows[row].name}.",
                "Set task.log=false, or mend that row.",
            )
        learnt = np.log(numbers) if self.log else numbers
        for name, column in zip(names, numbers.T, strict=True):
            if np.isnan(column).all():
                raise DataError(
                    f"task: rows with {name!r} are expected in train, found none.",
                    "Name another column in data.label_column.",
                )
        mean, std = np.nanmean(learnt, 0), np.nanstd(learnt, 0)
        for name, each, middle in zip(names, std, mean, strict=True):
            if not each > 1e-9 * max(1.0, abs(middle)):
                raise DataError(
                    f"task: numbers that differ are expected of {name!r} in train, found "
                    f"{np.exp(middle) if self.log else middle:g} in every row.",
                    "There is nothing to learn from a constant: name another column in data.label_column.",
                )
        scale = tuple(map(float, mean)), tuple(map(float, std))
        return NumberTarget(Labels(names), *scale, self.log, self.loss, self.unit)


@dataclass(frozen=True)
class NumberTarget(NamedTarget):
    """Labels float [N, K]. `mean` and `std` are the training rows', of logarithms with `log`; `half_widths`: of the
    intervals, in standard deviations, and `interval_from` what they were made of."""

    kind: ClassVar[str] = "regression"

    outputs: Labels
    mean: tuple[float, ...]
    std: tuple[float, ...]
    log: bool = False
    loss: LossName = "mse"
    unit: str | None = None
    half_widths: tuple[float, ...] | None = None
    interval_from: str = ""

    @property
    def reading(self) -> Reading:
        """As in training."""
        return Reading("numbers", log=self.log)

    @property
    def problem_type(self) -> ProblemType:
        """Bare outputs."""
        return "regression"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Each number by itself, with a penalty of its own, on the rows that have it."""
        return tuple(Part(1, "identity", _column(self, place)) for place in range(len(self.mean)))

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The usual one first."""
        return ("r2", "mae", "rmse", "spearman", "loss")

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """The mean over a row's numbers."""
        return own or _NumberLoss(self)

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> ValueAnswers:
        """The numbers in their unit."""
        return ValueAnswers(self.losses(logits, labels), self.in_unit(logits.astype(np.float64)))

    def in_unit(self, standard: np.ndarray) -> np.ndarray:
        """What the model says, float [N, K], as numbers in their unit."""
        found = standard * self.std + self.mean
        return np.exp(np.minimum(found, _LARGEST)) if self.log else found

    def standard(self, numbers: np.ndarray) -> np.ndarray:
        """The way back."""
        return ((np.log(numbers) if self.log else numbers) - self.mean) / self.std

    def intervals(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Below and above numbers float [N, K]: `INTERVAL` of new images lie between. None before `calibrated`."""
        if self.half_widths is None:
            return None
        middle = self.standard(values)
        return self.in_unit(middle - self.half_widths), self.in_unit(middle + self.half_widths)

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> NumberTarget:
        """With intervals from answers to rows that nothing was fitted on; `what` says which those are."""
        from hf_finetune.tasks.scores.number_measures import half_width

        residuals = self.standard(values_of(answers)) - self.standard(np.asarray(labels, np.float64))
        widths = [half_width(each[np.isfinite(each)], INTERVAL) for each in residuals.T]
        known = tuple(widths) if np.isfinite(widths).all() else None
        return replace(self, half_widths=known, interval_from=what if known else "")

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """The numbers in their unit, and their intervals."""
        from hf_finetune.tasks.predictions import NumberPrediction

        values, names = self.in_unit(logits.astype(np.float64)), self.outputs.names
        between = self.intervals(values)

        def named(numbers: np.ndarray) -> dict[str, float]:
            return dict(zip(names, numbers.tolist(), strict=True))

        if between is None:
            return [NumberPrediction(named(row), unit=self.unit) for row in values]
        rows = zip(values, *between, strict=True)
        return [NumberPrediction(named(row), named(low), named(high), self.unit) for row, low, high in rows]

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """What `score_numbers` says."""
        from hf_finetune.tasks.scores.numbers import score_numbers

        said, between = said_of(answers), self.intervals(values_of(answers)) if full else None
        names = self.outputs.names
        return score_numbers(names, said, labels, log=self.log, between=between, full=full, metrics=metrics)

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """Numbers are answered otherwise where they differ by a hundredth of their deviation."""
        one, other = (self.standard(values_of(each)) for each in (answers, than))
        apart = np.abs(one - other).max(1)
        return int((apart > 0.01).sum()), float(apart.max())

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """Each number as it is and as it was predicted."""
        several, values = len(self.mean) > 1, values_of(answers)
        names = [f"{name} " if several else "" for name in self.outputs.names]
        columns = tuple(f"{name}{what}" for name in names for what in ("label", "predicted"))
        pairs = np.stack([np.asarray(labels, np.float64).reshape(values.shape), values], 2).reshape(len(values), -1)
        return columns, (tuple("" if np.isnan(each) else f"{each:.8g}" for each in row) for row in pairs)


@dataclass(frozen=True)
class _NumberLoss:
    target: NumberTarget

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn import functional

        wanted, there = _standardised(self.target, labels)
        kind = {"mse": functional.mse_loss, "l1": functional.l1_loss, "huber": functional.huber_loss}[self.target.loss]
        return (kind(logits, wanted, reduction="none") * there).mean(1)


def _standardised(target: NumberTarget, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the model is to say, float32 [n, K], 0 where a number is missing, and which are there."""
    import torch

    numbers = labels.double().reshape(len(labels), -1)
    mean, std = (torch.tensor(each, dtype=torch.float64, device=labels.device) for each in (target.mean, target.std))
    there = ~numbers.isnan()
    standard = ((numbers.log() if target.log else numbers) - mean) / std
    return standard.nan_to_num(0.0).float(), there


def _column(target: NumberTarget, place: int) -> Any:
    def encode(labels: Tensor) -> tuple[Tensor, Tensor]:
        wanted, there = _standardised(target, labels)
        return wanted[:, place : place + 1], there[:, place].float()

    return encode
