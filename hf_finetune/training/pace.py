"""How far a training run is, by steps or by the clock; and the schedule and the stop that follow from it.

With a deadline the learning rate follows the clock, so that a run which is slower than forecast still anneals fully and
ends in time. All processes go by the one that is furthest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.machine.ranks import max_over_ranks

# Updates with a rising rate where the rate does not fall afterwards: a share of a run that may end early is no measure.
MOST_WARMUP = 30
Schedule = Literal["auto", "cosine", "linear", "constant"]


@dataclass
class Pace:
    """The limit of one `fit`: `steps` updates, and where `seconds` is given no longer than that.

    `evaluations`: how many times to evaluate, evenly, the last time at the end; after `patience` of them that were no
    better than the best before them it ends (0: it does not).
    """

    steps: int
    seconds: float | None = None
    evaluations: int = 1
    patience: int = 0
    _started: float = field(default=0.0, init=False)
    last: float = field(default=0.0, init=False)

    def start(self) -> None:
        """The clock starts."""
        self._started = time.monotonic()

    def share(self, step: int) -> float:
        """How much of the run is over after `step` updates, 0 … 1 and more; the same on every process."""
        done = step / self.steps
        if self.seconds is not None:
            spent = (time.monotonic() - self._started) / max(self.seconds, 1e-9) if self._started else 0.0
            done = max_over_ranks(max(done, spent))
        self.last = done
        return done

    def expected(self, step: int) -> int:
        """How many updates it will have been in all, judged after `step` of them."""
        return self.steps if step == 0 or self.last <= 0 else min(self.steps, max(step, round(step / self.last)))

    def factor(self, step: int, schedule: Schedule, warmup: float) -> float:
        """The learning rate's share of its peak at the update after `step`."""
        done = self.share(step)
        if schedule == "auto":
            rising = min(warmup * self.steps, MOST_WARMUP)
            return 1.0 if rising <= 0 else min(1.0, (step + 1) / rising)
        if done < warmup:
            return (done + 1 / self.steps) / (warmup + 1 / self.steps)
        rest = min(1.0, (done - warmup) / (1 - warmup))
        if schedule == "constant":
            return 1.0
        return 1 - rest if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * rest))

    def scheduler(
        self, optimizer: torch.optim.Optimizer, schedule: Schedule, warmup: float
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """The schedule as torch's scheduler."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, schedule, warmup))


class KeepPace(TrainerCallback):
    """Evaluates at even shares of the run and ends it in time, or where `waited()` evaluations were no better than one
    before them."""

    def __init__(self, pace: Pace, waited: Callable[[], int]) -> None:
        self._pace, self._waited = pace, waited
        self._evaluated = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._pace.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        over = self._pace.last >= 1 or state.global_step >= state.max_steps
        if over:
            control.should_training_stop = True
        if over or int(self._pace.last * self._pace.evaluations) > self._evaluated:
            self._evaluated = int(self._pace.last * self._pace.evaluations)
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if 0 < self._pace.patience <= self._waited():
            control.should_training_stop = True
