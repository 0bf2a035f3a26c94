"""Remembers the best evaluation of a run: its metrics, its answers and, where asked for, the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.machine.ranks import is_distributed
from hf_finetune.types import Answers

Score = Callable[[Answers, np.ndarray], dict[str, Any]]
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
        self._last: tuple[dict[str, Any], Answers] | None = None
        self.step: int | None = None
        self.metrics: dict[str, Any] = {}
        self.answers: Answers | None = None
        self.state: Mapping[str, torch.Tensor] | None = None

    def reduce(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch's logits [B, C] as what is kept of them: top [B, k], confidence [B] and loss [B].

        The Trainer keeps what this gives of a whole split, where logits of many classes would not fit.
        """
        answers = self._reduce(logits.float().cpu().numpy(), labels.cpu().numpy())
        top, confidence, loss = (torch.from_numpy(part) for part in (answers.top, answers.confidence, answers.loss))
        if not is_distributed():
            return top, confidence, loss
        return top.to(logits.device), confidence.to(logits.device), loss.to(logits.device)  # NCCL gathers these only

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, Any]:
        """The score of one evaluation."""
        answers = Answers(*(np.asarray(part) for part in prediction.predictions))
        metrics = self._score(answers, np.asarray(prediction.label_ids))
        self._last = (metrics, answers)
        return metrics

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._last is None:
            return
        metrics, answers = self._last
        # Beside checkpoints the Trainer's own rule must hold, since it keeps the weights.
        if self.step is None or is_better(metrics, self.metrics, self._by, ties=self._take is not None):
            self.step, self.metrics, self.answers = state.global_step, metrics, answers
            if self._take is not None:
                self.state = self._take()


def is_better(metrics: Mapping[str, Any], than: Mapping[str, Any], by: str, *, ties: bool = True) -> bool:
    """By the metric `by`; with `ties`, equal ones by the loss: on small validation sets accuracies are often equal."""
    sign = -1 if by == "loss" else 1
    if metrics[by] != than[by]:
        return sign * (metrics[by] - than[by]) > 0
    return ties and metrics["loss"] < than["loss"]


def is_more_than_luck(answers: Answers, than: Answers, labels: np.ndarray, by: str) -> bool:
    """Whether the answers to the same rows are better by more than one standard error of the difference, row by row:
    in the loss where the metric `by` is that, else in right answers.

    One image of a small validation split says nothing against a model that learnt from many elsewhere (the rule of one
    standard error: Breiman et al. 1984, Classification and Regression Trees, chapter 3), and a lower loss on a few that
    both answer rightly does not either.
    """
    gain = (answers.predicted == labels).astype(float) - (than.predicted == labels)
    if by == "loss":
        gain = than.loss - answers.loss
    if len(gain) < 2:
        return False
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))
