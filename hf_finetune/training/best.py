"""Remembers the best evaluation of a run: its metrics, its logits and, where asked for, the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Score = Callable[[np.ndarray, np.ndarray], dict[str, Any]]


class KeepBest(TrainerCallback):
    """`score` as the Trainer's compute_metrics, and the callback that compares. `by`: the metric's name.

    `take` copies the weights at each new best (None: checkpoints on disk do that).
    """

    def __init__(self, score: Score, by: str, take: Callable[[], Mapping[str, torch.Tensor]] | None) -> None:
        self._score, self._by, self._take = score, by, take
        self._last: tuple[dict[str, Any], np.ndarray] | None = None
        self.step: int | None = None
        self.metrics: dict[str, Any] = {}
        self.logits: np.ndarray | None = None
        self.state: Mapping[str, torch.Tensor] | None = None

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, Any]:
        """The score of one evaluation."""
        logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        metrics = self._score(logits, labels)
        self._last = (metrics, logits)
        return metrics

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._last is None:
            return
        metrics, logits = self._last
        # Beside checkpoints the Trainer's own rule must hold, since it keeps the weights.
        if self.step is None or is_better(metrics, self.metrics, self._by, ties=self._take is not None):
            self.step, self.metrics, self.logits = state.global_step, metrics, logits
            if self._take is not None:
                self.state = self._take()


def is_better(metrics: Mapping[str, Any], than: Mapping[str, Any], by: str, *, ties: bool = True) -> bool:
    """By the metric `by`; with `ties`, equal ones by the loss: on small validation sets accuracies are often equal."""
    sign = -1 if by == "loss" else 1
    if metrics[by] != than[by]:
        return sign * (metrics[by] - than[by]) > 0
    return ties and metrics["loss"] < than["loss"]
