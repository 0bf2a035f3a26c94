"""What the two trained rungs share: the model in its training form, seconds of an update, and the training itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.adapters.trained import frozen_norms, restore_state, trained_state
from hf_finetune.ladder.trained.calibrate import update_seconds
from hf_finetune.machine import processes
from hf_finetune.training.fit import ByClock, Fit, FitFolders, FitRows, Judge, Trainable, fit
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pace import Pace
from hf_finetune.types import Decision, PixelRows, Plan, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

Told = Callable[[Fit, Mapping[str, torch.Tensor]], object]


def _to_nobody(fit: Fit, weights: Mapping[str, torch.Tensor]) -> None: ...


@contextmanager
def trainable(model: nn.Module, plan: Plan) -> Iterator[Trainable]:
    """The model as it trains: LoRA layers in their own form where all have one, frozen statistics known."""
    with training_forms(model, plan) as autocast:
        yield Trainable(model, frozen_norms(model), autocast)


class TrainedRung(ABC):
    """Trains `model` on what a rung makes of the images `rows`; `validation` are the rows that choose."""

    def __init__(self, model: nn.Module, context: RunContext, rows: Mapping[Split, PixelRows], validation: Any) -> None:
        self._model, self._context = model, context
        self._rows, self._validation = rows, validation
        self._seconds: dict[float, float] = {}

    @property
    @abstractmethod
    def learning_rate(self) -> Decision[float]:
        """The plan's for this rung."""

    @abstractmethod
    def _training(self, share: float) -> AbstractContextManager[tuple[Objective, BatchRows]]:
        """Loss and rows with this share of the patches, on a model that takes them while it is entered."""

    def update_s(self, share: float) -> float:
        """Seconds of an update with this share of the patches, the slowest process's; measured once for each."""
        if share not in self._seconds:
            plan, train = self._context.plan, self._context.recipe.train
            batch = plan.effective_batch.value // self._context.machine.world_size
            with self._training(share) as (objective, rows), trainable(self._model, plan) as model:
                seconds = update_seconds(model, train, plan, objective, rows, batch)
            self._seconds[share] = max(processes.gather(seconds))
        return self._seconds[share]

    def run(self, pace: Pace | None, share: float, folders: FitFolders, told: Told = _to_nobody) -> Fit:
        """Train; afterwards the model holds the weights that were best on validation.

        With a pace they are kept in memory, and `told` of each that are the best so far. Without one the plan's steps
        hold, checkpoints are written, and one of `folders` is gone on from.
        """
        context, model, names = self._context, self._model, self._rows["train"].names
        classes = context.classes_to_balance(self._rows["train"].labels)
        by_clock = None
        if pace is not None:
            folders = replace(folders, resume=None)
            by_clock = ByClock(pace, partial(trained_state, model), partial(restore_state, model), told)
        with self._training(share) as (objective, rows), trainable(model, context.plan) as form:
            return fit(
                form,
                context.recipe.train,
                context.plan,
                objective,
                FitRows(rows, self._validation, lambda numbers: [names[number] for number in numbers], classes),
                Judge(
                    context.target.answers,
                    partial(context.score, full=False),
                    partial(context.target.gains, by=context.recipe.train.best_by),
                ),
                folders,
                learning_rate=self.learning_rate.value,
                by_clock=by_clock,
                callbacks=context.extensions.callbacks,
            )
