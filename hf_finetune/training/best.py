"""Remembers the best evaluation of a run: its metrics, its answers and, where asked for, the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.labels import Answers
from hf_finetune.machine.ranks import is_distributed

Score = Callable[[Answers, np.ndarray], dict[str, Any]]
LESS_IS_BETTER = frozenset({"loss", "mae", "rmse", "grade_error"})
Reduce = Callable[[np.ndarray, np.ndarray], Answers]


class KeepBest(TrainerCallback):
    """`reduce` and `score` as the Trainer's preprocess_logits_for_metrics and compute_metrics, and the callback that
    compares. `by`: the metric's name.

    `take` copies the weights at each new best (None: checkpoints on disk do that).
    """

    def __init__(
        self, reduce: Reduce, score: Score, by: str, take: Callable[[], Mapping[str, torch.Tensor]] | None
    ) -> None:
        self._reduce, self._score, self._by, self._take = reduce, score, by, take
        self._like: Answers | None = None  # what `reduce` gave last
        self._last: tuple[dict[str, Any], Answers] | None = None
        self.step: int | None = None
        self.count = 0  # of evaluations
        self.waited = 0  # of those since one that was worth waiting for
        self.metrics: dict[str, Any] = {}
        self.answers: Answers | None = None
        self.state: Mapping[str, torch.Tensor] | None = None

    def reduce(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A batch's logits [B, C] as what is kept of them: the arrays of its answers, [B, …] each.

        The Trainer keeps what this gives of a whole split, where logits of many classes would not fit.
        """
        answers = self._reduce(logits.float().cpu().numpy(), labels.cpu().numpy())
        self._like = answers
        device = logits.device if is_distributed() else "cpu"  # NCCL gathers a GPU's only
        return tuple(torch.from_numpy(each).to(device) for each in answers.arrays())

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, Any]:
        """The score of one evaluation."""
        if self._like is None:
            raise ValueError("no batch was reduced")
        answers = self._like.with_arrays([np.asarray(each) for each in prediction.predictions])
        metrics = self._score(answers, np.asarray(prediction.label_ids))
        self._last = (metrics, answers)
        return metrics

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._last is None:
            return
        metrics, answers = self._last
        self.count, self.waited = self.count + 1, self.waited + 1
        # Beside checkpoints the Trainer's own rule must hold, since it keeps the weights.
        if self.step is None or is_better(metrics, self.metrics, self._by, ties=self._take is not None):
            if self.step is None or not are_alike(metrics, self.metrics, self._by):
                self.waited = 0
            self.step, self.metrics, self.answers = state.global_step, metrics, answers
            if self._take is not None:
                self.state = self._take()


def is_better(metrics: Mapping[str, Any], than: Mapping[str, Any], by: str, *, ties: bool = True) -> bool:
    """By the metric `by`; with `ties`, equal ones by the loss: on small validation sets accuracies are often equal."""
    sign = -1 if by.rpartition(".")[2] in LESS_IS_BETTER else 1  # of one of several targets: `price.mae`
    if metrics[by] != than[by]:
        return sign * (metrics[by] - than[by]) > 0
    return ties and metrics["loss"] < than["loss"]


def are_alike(one: Mapping[str, Any], other: Mapping[str, Any], by: str, share: float = 1e-3) -> bool:
    """Whether two scores are equal by the metric `by`, and by the loss but for rounding or such a share of it."""
    apart = abs(one["loss"] - other["loss"])
    return bool(np.isclose(one[by], other[by], rtol=1e-6)) and apart <= max(1e-6, share * abs(other["loss"]))


def is_more_than_luck(gains: np.ndarray, errors: float = 1.0) -> bool:
    """Whether rows that are answered better by `gains` float [N] each are so by more than so many standard errors of
    the mean gain.

    One image of a small validation split says nothing against a model that learnt from many elsewhere (the rule of one
    standard error: Breiman et al. 1984, Classification and Regression Trees, chapter 3), and a lower loss on a few that
    both answer rightly does not either.
    """
    return len(gains) > 1 and bool(gains.mean() > errors * gains.std(ddof=1) / np.sqrt(len(gains)))
