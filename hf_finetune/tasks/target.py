"""What a task settles on a dataset: the model's outputs, how they are trained, what they say, and the metrics of that.

A task's section is what a person writes; its `settle` makes the `Target`, which the rungs, the results and the reports
ask. Labels are what the rows hold, int64 [N] or float [N, …]: only the target knows what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from hf_finetune.labels import Answers, Labels, Reading, ValueAnswers

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """Some outputs that stand side by side and are fitted together in closed form: how many, by which link
    (ladder/probe/links.py), and `encode`, which makes of labels what that link compares with, int64 [n] or float
    [n, outputs], and the rows' weights float32 [n], 0 where the target is missing. `offsets`: what the task's loss adds
    to the outputs, and the model does not say (none where empty)."""

    outputs: int
    link: Literal["softmax", "sigmoid", "identity"]
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    offsets: tuple[float, ...] = ()


class Target(Protocol):
    """Frozen and light; torch is imported by the methods that need it."""

    @property
    def outputs(self) -> Labels:
        """The model's outputs, by name and in order."""
        ...

    @property
    def reading(self) -> Reading:
        """How labels are read that its model can be scored on."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What a result keeps of it beside the outputs, as JSON: `kind`, and what answering takes."""
        ...

    @property
    def problem_type(self) -> ProblemType | None:
        """What transformers calls it; None: it has no name for it, and pipelines show bare outputs or worse."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """All outputs in their order, as they are fitted in closed form."""
        ...

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The metrics that may choose the best weights, the usual one first."""
        ...

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """The loss of each row, of logits float32 [B, C] and labels; `own` takes the place of the task's."""
        ...

    def row_weights(self, labels: Tensor, partner_labels: Tensor | None = None, mix: Tensor | None = None) -> Tensor:
        """What each row counts in the mean loss: float32 [B]. `partner_labels` and `mix`: see loss.py."""
        ...

    def worth(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How well each row is answered, float [B] from 0 to 1."""
        ...

    def strength(self, logits: Tensor) -> Tensor:
        """How much the logits say what is said of each image, float [B]: its gradient shows what speaks for it."""
        ...

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> Answers:
        """What is kept of logits float [N, C] with their labels; of any number of rows, so that a split's logits need
        never be whole. Raises DataError (no rows, a label that the model cannot have)."""
        ...

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> Target:
        """With thresholds, intervals or a temperature from answers to rows that nothing was fitted on; `what` says
        which rows those are."""
        ...

    def again(self, answers: Answers) -> Answers:
        """Answers from before it was calibrated, as it says them since."""
        ...

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """What it says of each image, logits float [N, C]."""
        ...

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """The metrics of a split, all plain Python values: `rows`, `loss` and the task's own; with `full` tables too.
        `metrics` are the caller's own, by name. Raises DataError (no rows), TrainingError (a logit was not finite)."""
        ...

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """How many rows two models answer otherwise, and the largest difference of what they say: of probabilities, or
        of numbers in their standard deviations."""
        ...

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """For predictions.csv: the columns, and a line for each row."""
        ...

    def gains(self, answers: Answers, than: Answers, labels: np.ndarray, by: str) -> np.ndarray:
        """How much better each row is answered, float [N], in the terms of the metric `by`."""
        ...


def said_of(answers: Answers) -> ValueAnswers:
    """Answers of a target whose outputs have values. Raises TypeError for others."""
    if not isinstance(answers, ValueAnswers):
        raise TypeError(f"ValueAnswers are expected, got {type(answers).__name__}")
    return answers


def values_of(answers: Answers) -> np.ndarray:
    """Their values float64 [N, C]."""
    return said_of(answers).values
