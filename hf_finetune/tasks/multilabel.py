"""Any number of labels an image: the recipe's `task` section, and what it is settled to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hf_finetune.errors import DataError
from hf_finetune.labels import Answers, Labels, Reading, ValueAnswers
from hf_finetune.section import Section
from hf_finetune.tasks.target import NO_METRICS, Part, ProblemType, said_of, values_of
from hf_finetune.tasks.value_target import NamedTarget, sigmoid
from hf_finetune.types import Index

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction

LossName = Literal["bce", "asymmetric"]
# Ben-Baruch et al. 2020, arXiv 2009.14119, section 3: negatives are discounted by their own probability to this power,
# and those below the margin count for nothing.
_DISCOUNT, _MARGIN = 4.0, 0.05
_LARGEST_BOOST = 10.0


class Multilabel(Section):
    """Any number of labels an image, each told by itself."""

    kind: Literal["multilabel"] = "multilabel"
    loss: LossName = Field(
        default="bce", description="binary cross-entropy (bce), or asymmetric, where easy negatives count for little"
    )
    positive_weights: Literal["none", "auto"] | tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default="none", description="none, auto (negatives per positive, at most 10), or one number a label"
    )
    separator: str | None = Field(
        default=None, min_length=1, description="what separates labels in one text, such as ';'; null: lists or columns"
    )

    @property
    def reading(self) -> Reading:
        """Any number of labels a row."""
        return Reading("labels", separator=self.separator)

    def settle(self, index: Index) -> LabelsTarget:
        """Raises DataError where the recipe's weights are of another number than the labels."""
        names, outputs = index.columns[0].names, Labels(index.columns[0].names)
        if self.positive_weights == "none":
            return LabelsTarget(outputs, loss=self.loss, separator=self.separator)
        if self.positive_weights != "auto":
            if len(self.positive_weights) != len(names):
                raise DataError(
                    f"task.positive_weights: one weight for each of the {len(names)} labels is expected, "
                    f"found {len(self.positive_weights)}.",
                    f"List them in the order {', '.join(names[:5])}{', …' if len(names) > 5 else ''}, or use "
                    "task.positive_weights=auto.",
                )
            return LabelsTarget(outputs, tuple(self.positive_weights), self.loss, separator=self.separator)
        truth = np.array([row.label for row in index.splits["train"]], np.float64)
        positives, negatives = (truth == 1).sum(0), (truth == 0).sum(0)
        weights = np.clip(negatives / np.maximum(positives, 1), 1 / _LARGEST_BOOST, _LARGEST_BOOST)
        return LabelsTarget(outputs, tuple(weights.tolist()), self.loss, separator=self.separator)


@dataclass(frozen=True)
class LabelsTarget(NamedTarget):
    """Labels float [N, C] of 0 and 1, NaN where it is not known. `thresholds`: the probability from which each label is
    given, chosen on `thresholds_from`; None: .5."""

    kind: ClassVar[str] = "multilabel"

    outputs: Labels
    positive_weights: tuple[float, ...] | None = None
    loss: LossName = "bce"
    thresholds: tuple[float, ...] | None = None
    thresholds_from: str = ""
    separator: str | None = None

    @property
    def cuts(self) -> tuple[float, ...]:
        """The threshold of each label."""
        return self.thresholds or (0.5,) * len(self.outputs.names)

    @property
    def reading(self) -> Reading:
        """As in training."""
        return Reading("labels", self.outputs.names, self.separator)

    @property
    def problem_type(self) -> ProblemType:
        """A sigmoid a label."""
        return "multi_label_classification"

    @property
    def parts(self) -> tuple[Part, ...]:
        """All labels in one solve, on the rows where each is known."""

        def encode(labels: Tensor) -> tuple[Tensor, Tensor]:
            known = ~labels.isnan().any(1)
            return labels.nan_to_num(0.0).float(), known.float()

        return (Part(len(self.outputs.names), "sigmoid", encode),)

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The usual one first."""
        return ("map", "macro_f1", "micro_f1", "loss")

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """The mean over a row's labels."""
        return own or _LabelLoss(self)

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> ValueAnswers:
        """The probability of each label."""
        return ValueAnswers(self.losses(logits, labels), sigmoid(logits))

    def strength(self, logits: Tensor) -> Tensor:
        """The logit of the likeliest label, float [B]."""
        return logits.amax(1)

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> LabelsTarget:
        """With the thresholds of the largest F1 on rows that nothing was fitted on; `what` says which those are."""
        from hf_finetune.tasks.scores.label_measures import best_threshold

        truth, scores = np.asarray(labels, np.float64), values_of(answers)
        known = ~np.isnan(truth)
        found = [best_threshold(scores[there, at], truth[there, at]) for at, there in enumerate(known.T)]
        return replace(self, thresholds=tuple(found), thresholds_from=what)

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """The labels whose probability reaches their threshold."""
        from hf_finetune.tasks.predictions import LabelsPrediction

        names, cuts = self.outputs.names, np.asarray(self.cuts)
        shares = sigmoid(logits)
        return [
            LabelsPrediction(tuple(names[at] for at in np.flatnonzero(row >= cuts)), tuple(row.tolist()), names)
            for row in shares
        ]

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """What `score_labels` says."""
        from hf_finetune.tasks.scores.labels import score_labels

        cuts = dict(zip(self.outputs.names, self.cuts, strict=True))
        return score_labels(cuts, said_of(answers), labels, full=full, metrics=metrics)

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """Rows that get other labels, and the largest difference of a probability."""
        one, other = values_of(answers), values_of(than)
        cuts = np.asarray(self.cuts)
        return int(((one >= cuts) != (other >= cuts)).any(1).sum()), float(np.abs(one - other).max())

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """The labels of each row and those that it was given, then the probability of each."""
        names, cuts, values = self.outputs.names, np.asarray(self.cuts), values_of(answers)

        def said(which: np.ndarray) -> str:
            return "; ".join(names[place] for place in np.flatnonzero(which))

        lines = (
            (said(true == 1), said(row >= cuts), *(f"{share:.6f}" for share in row))
            for true, row in zip(np.asarray(labels), values, strict=True)
        )
        return ("labels", "predicted", *(f"probability of {name}" for name in names)), lines


@dataclass(frozen=True)
class _LabelLoss:
    target: LabelsTarget

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        import torch
        from torch.nn import functional

        known = ~labels.isnan()
        truth, weights = labels.nan_to_num(0.0).to(logits.dtype), self.target.positive_weights
        boost = None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)
        if self.target.loss == "bce":
            losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=boost)
        else:
            positive = truth if boost is None else truth * boost
            falsely = (logits.sigmoid() - _MARGIN).clamp(min=0)
            losses = -positive * functional.logsigmoid(logits)
            losses = losses - (1 - truth) * falsely**_DISCOUNT * (1 - falsely).clamp(min=1e-8).log()
        return (losses * known).mean(1)
