"""One of several grades in an order an image: the recipe's `task` section, and what it is settled to.

K grades have K − 1 outputs, each saying whether the grade is above the k-th (Frank & Hall 2001, A Simple Approach to
Ordinal Classification): cumulative links, by their binary cross-entropies. Answers are made monotone, so that the
probability of each grade is none below 0, and the grade that is said is the median, which no other beats in the mean
distance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from hf_finetune.labels import Answers, Labels, Reading, ValueAnswers
from hf_finetune.section import Section
from hf_finetune.tasks.target import NO_METRICS, Part, ProblemType, said_of, values_of
from hf_finetune.tasks.value_target import ValueTarget, sigmoid
from hf_finetune.types import Index

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction


def _as_texts(value: object) -> object:
    """Grades that YAML reads as numbers or truth values."""
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value


def _all_different(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and (double := [name for name, times in Counter(value).items() if times > 1]):
        raise ValueError(f"each grade is expected once, found {double[0]!r} twice")
    return value


class Ordinal(Section):
    """Grades in an order, such as 0 to 4 or mild, moderate, severe."""

    kind: Literal["ordinal"] = "ordinal"
    order: Annotated[tuple[str, ...] | None, BeforeValidator(_as_texts), AfterValidator(_all_different)] = Field(
        default=None, min_length=2, description="the grades from the lowest up; null: whole numbers by their value"
    )

    @property
    def reading(self) -> Reading:
        """Grades, in the order that is given."""
        return Reading("grades", self.order or ())

    def settle(self, index: Index) -> GradeTarget:
        """The index has the grades in their order already."""
        return GradeTarget(Labels(index.columns[0].names))


@dataclass(frozen=True)
class GradeTarget(ValueTarget):
    """Labels int64 [N] are places in `grades`; as float, NaN where it is not known."""

    grades: Labels

    @property
    def outputs(self) -> Labels:
        """`above mild`, `above moderate`: one fewer than grades."""
        return Labels(tuple(f"above {name}" for name in self.grades.names[:-1]))

    @property
    def reading(self) -> Reading:
        """As in training."""
        return Reading("grades", self.grades.names)

    @property
    def settings(self) -> dict[str, Any]:
        """The grades' own names."""
        return {"kind": "ordinal", "grades": list(self.grades.names)}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], outputs: Labels) -> GradeTarget:
        """From a result."""
        del outputs
        return cls(Labels(tuple(settings["grades"])))

    @property
    def problem_type(self) -> ProblemType:
        """A sigmoid a question, which is what its outputs are."""
        return "multi_label_classification"

    @property
    def parts(self) -> tuple[Part, ...]:
        """All in one solve."""
        return (Part(len(self.grades.names) - 1, "sigmoid", self.cumulative),)

    def cumulative(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each row's grade is above each but the last, float32 [n, K − 1], and 1 where it is known, [n]."""
        import torch

        steps = torch.arange(len(self.grades.names) - 1, device=labels.device)
        given = labels.reshape(len(labels))
        return (given[:, None] > steps).float(), (~given.isnan() if given.is_floating_point() else given >= 0).float()

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The usual one first."""
        return ("kappa", "grade_error", "accuracy", "loss")

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """The mean over the K − 1 questions."""
        return own or _GradeLoss(self)

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> ValueAnswers:
        """The probabilities of being above each grade but the last, falling."""
        return ValueAnswers(self.losses(logits, labels), np.minimum.accumulate(sigmoid(logits), axis=1))

    def predicted(self, values: np.ndarray) -> np.ndarray:
        """int64 [N]: the median grade."""
        return (values > 0.5).sum(1)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """float64 [N, K] of each grade."""
        edges = np.concatenate([np.ones((len(values), 1)), values, np.zeros((len(values), 1))], 1)
        return edges[:, :-1] - edges[:, 1:]

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> GradeTarget:
        """The median needs no threshold."""
        del answers, labels, what
        return self

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """The median grade, and the probability of each."""
        from hf_finetune.tasks.predictions import ClassPrediction

        names = self.grades.names
        values = np.minimum.accumulate(sigmoid(logits), axis=1)
        rows = zip(self.predicted(values).tolist(), self.probabilities(values), strict=True)
        return [ClassPrediction(names[best], float(row[best]), tuple(row.tolist()), names) for best, row in rows]

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """What `score_grades` says."""
        from hf_finetune.tasks.scores.grades import score_grades

        said = self.predicted(values_of(answers))
        return score_grades(self.grades.names, said, said_of(answers), labels, full=full, metrics=metrics)

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """Rows of another grade, and the largest difference of a probability."""
        one, other = values_of(answers), values_of(than)
        return int((self.predicted(one) != self.predicted(other)).sum()), float(np.abs(one - other).max())

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """Grade, the one that is said, and its probability."""
        names, values = self.grades.names, values_of(answers)
        said, shares = self.predicted(values), self.probabilities(values)
        rows = zip(np.asarray(labels).astype(np.int64).tolist(), said.tolist(), shares, strict=True)
        lines = ((names[grade], names[best], f"{row[best]:.6f}") for grade, best, row in rows)
        return ("label", "predicted", "probability"), lines

    def gains(self, answers: Answers, than: Answers, labels: np.ndarray, by: str) -> np.ndarray:
        """By loss its fall, else how many grades nearer."""
        if by == "loss":
            return than.loss - answers.loss
        off = [np.abs(self.predicted(values_of(each)) - labels) for each in (than, answers)]
        return (off[0] - off[1]).astype(float)


@dataclass(frozen=True)
class _GradeLoss:
    target: GradeTarget

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn import functional

        wanted, known = self.target.cumulative(labels)
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1) * known
