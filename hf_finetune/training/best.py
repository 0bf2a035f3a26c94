"""Remembers the best evaluation of a run: its metrics, its answers and, where asked for, the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.labels import Answers
from hf_finetune.machine.ranks import is_distributed

Score = Callable[[Answers, np.ndarray], dict[str, Any]]
Gains = Callable[[Answers, Answers, np.ndarray], np.ndarray]
TOLD_BY_ROWS = "accuracy"  # the metric of which each row is right or wrong by itself
LESS_IS_BETTER = frozenset({"loss", "mae", "rmse", "grade_error"})
Reduce = Callable[[np.ndarray, np.ndarray], Answers]


@dataclass(frozen=True)
class Told:
    """What a model says of validation: its score and its answers."""

    metrics: Mapping[str, Any]
    answers: Answers

    def as_compared(self, by: str) -> dict[str, Any]:
        """The score; where `is_preferred` goes by the calibrated loss, with that."""
        loss = self.answers.calibrated_loss if by == TOLD_BY_ROWS else None
        return dict(self.metrics) if loss is None else {**self.metrics, "loss": loss}


class KeepBest(TrainerCallback):
    """`reduce` and `score` as the Trainer's preprocess_logits_for_metrics and compute_metrics, and the callback that
    compares. `by`: the metric's name; `gains(answers, than, labels)`: how much better each row is answered in its
    terms.

    `take` copies the weights at each new best (None: checkpoints on disk do that).
    """

    def __init__(
        self, reduce: Reduce, score: Score, by: str, gains: Gains, take: Callable[[], Mapping[str, torch.Tensor]] | None
    ) -> None:
        self._reduce, self._score, self._by, self._gains, self._take = reduce, score, by, gains, take
        self._like: Answers | None = None  # what `reduce` gave last
        self._last: tuple[dict[str, Any], Answers, np.ndarray] | None = None
        self.step: int | None = None
        self.count = 0  # of evaluations
        self.waited = 0  # of those since one that was worth waiting for
        self.metrics: dict[str, Any] = {}
        self.answers: Answers | None = None
        self.state: Mapping[str, torch.Tensor] | None = None
        self._choice = Choice(by)

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
        labels = np.asarray(prediction.label_ids)
        metrics = self._score(answers, labels)
        self._last = (metrics, answers, labels)
        return metrics

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._last is None:
            return
        metrics, answers, labels = self._last
        self.count, self.waited = self.count + 1, self.waited + 1
        told = Told(metrics, answers)
        best = None if self.step is None or self.answers is None else Told(self.metrics, self.answers)
        if best is not None and not self._is_better(told, best, labels):
            return
        if best is None or not are_alike(told.as_compared(self._by), best.as_compared(self._by), self._by):
            self.waited = 0
        self.step, self.metrics, self.answers = state.global_step, metrics, answers
        if self._take is not None:
            self.state = self._take()

    def _is_better(self, told: Told, best: Told, labels: np.ndarray) -> bool:
        if self._take is None:  # beside checkpoints the Trainer's own rule must hold, since it keeps the weights
            return is_better(told.metrics, best.metrics, self._by, ties=False)
        return self._choice.prefers(told, best, lambda one, than: self._gains(one, than, labels))


class TellBest(TrainerCallback):
    """Tells of the weights of each evaluation that is the best so far, once it is over."""

    def __init__(self, best: KeepBest, tell: Callable[[Mapping[str, torch.Tensor]], object]) -> None:
        self._best, self._tell = best, tell

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._best.state is not None and self._best.step == state.global_step:
            self._tell(self._best.state)


def is_better(metrics: Mapping[str, Any], than: Mapping[str, Any], by: str, *, ties: bool = True) -> bool:
    """By the metric `by`; with `ties`, equal ones by the loss: on small validation sets accuracies are often equal."""
    sign = -1 if by.rpartition(".")[2] in LESS_IS_BETTER else 1  # of one of several targets: `price.mae`
    if metrics[by] != than[by]:
        return sign * (metrics[by] - than[by]) > 0
    return ties and metrics["loss"] < than["loss"]


class Choice:
    """`is_preferred` of one after another, which remembers the highest by the metric `by`."""

    def __init__(self, by: str) -> None:
        self._by = by
        self._highest: Told | None = None

    def prefers(self, told: Told, best: Told, gains: Callable[[Answers, Answers], np.ndarray]) -> bool:
        """Whether `told` is to be the best from now on."""
        highest = best if self._highest is None else self._highest
        self._highest = told if is_better(told.metrics, highest.metrics, self._by) else highest
        return is_preferred(told, best, highest, self._by, gains)


def is_preferred(
    told: Told, best: Told, highest: Told, by: str, gains: Callable[[Answers, Answers], np.ndarray]
) -> bool:
    """Whether `told` is better than `best`. By accuracy where the rows tell the two apart, of which each is answered
    better by `gains(answers, than)`: by more than luck, one way or the other. Else by the loss at each one's best
    temperature, unless it is clearly less accurate than `highest`, the most accurate of all so far: many steps of
    chance would lead down. By another metric, of which rows do not tell, `is_better` does.

    A photo more of a small validation split is chance, and choosing by it loses points of what is held out
    (docs/experiments.md, "What chooses among rungs").
    """
    losses = [each.answers.calibrated_loss for each in (told, best)]
    if by != TOLD_BY_ROWS or losses[0] is None or losses[1] is None:
        return is_better(told.metrics, best.metrics, by)
    gained = gains(told.answers, best.answers)
    if is_more_than_luck(gained) or is_more_than_luck(-gained):
        return is_better(told.metrics, best.metrics, by)
    return losses[0] < losses[1] and not is_more_than_luck(gains(highest.answers, told.answers))


def are_alike(one: Mapping[str, Any], other: Mapping[str, Any], by: str, share: float = 1e-3) -> bool:
    """Whether two scores are equal by the metric `by`, and by the loss but for rounding or such a share of it."""
    apart = abs(one["loss"] - other["loss"])
    return bool(np.isclose(one[by], other[by], rtol=1e-6)) and apart <= max(1e-6, share * abs(other["loss"]))


def is_more_than_luck(gains: np.ndarray, errors: float = 1.0) -> bool:
    """Whether rows that are answered better by `gains` float [N] each are so by more than so many standard errors of
    the mean gain.

    One image of a small validation split says nothing against a model that learnt from many elsewhere (the rule of one
    standard error: Breiman et al. 1984, Classification and Regression Trees, chapter 3), and a lower loss on a few that
    both answer rightly does not either. One row that alone is answered better is exactly one error: rounding must not
    decide there.
    """
    if len(gains) < 2:
        return False
    return bool(gains.mean() > (1 + 1e-9) * errors * gains.std(ddof=1) / np.sqrt(len(gains)))
