"""What the two trained rungs share: seconds of an update, measured once, and one call of the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.adapters.trained import frozen_norms, restore_state, trained_state
from hf_finetune.ladder.trained.calibrate import update_seconds
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.tasks.scoring import answers_of, score_answers
from hf_finetune.training.fit import Fit, FitFolders, WeightKeeper, fit
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pace import Pace
from hf_finetune.types import Labels, PixelRows, Plan, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


class TrainedRung(ABC):
    """Trains `model` by `plan` on what is made of the images `rows`; `validation` are the rows that choose."""

    def __init__(
        self, model: nn.Module, context: RunContext, plan: Plan, rows: Mapping[Split, PixelRows], validation: Any
    ) -> None:
        self._model, self._ready, self._plan = model, context, plan
        self._rows, self._validation = rows, validation
        self._seconds: dict[float, float] = {}

    @abstractmethod
    def _training(self, keep: float) -> AbstractContextManager[tuple[Objective, BatchRows]]:
        """Loss and rows with this share of the patches, on a model that takes them while it is entered."""

    def update_s(self, keep: float) -> float:
        """Seconds of an update with this share of the patches; measured once for each."""
        if keep not in self._seconds:
            with self._training(keep) as (objective, rows):
                self._seconds[keep] = update_seconds(self._model, self._ready, objective, rows)
        return self._seconds[keep]

    def run(self, pace: Pace | None, keep: float, folders: FitFolders) -> Fit:
        """Train; afterwards the model holds the weights that were best on validation.

        Without a pace the plan's steps hold, and a checkpoint of `folders` is gone on from.
        """
        with self._training(keep) as (objective, rows):
            return train_rung(
                self._model,
                self._ready.recipe,
                self._plan,
                self._ready.index.labels,
                objective,
                rows=rows,
                validation=self._validation,
                train=self._rows["train"],
                folders=folders if pace is None else replace(folders, resume=None),
                pace=pace,
            )


def train_rung(
    model: nn.Module,
    recipe: Recipe,
    plan: Plan,
    labels: Labels,
    objective: Objective,
    *,
    rows: BatchRows,
    validation: Any,
    train: PixelRows,
    folders: FitFolders,
    pace: Pace | None,
) -> Fit:
    """Train `model` on `rows`, made of the images `train`; afterwards it holds the weights that were best on
    `validation`. With a `pace` the best are kept in memory, without one in checkpoints."""
    with training_forms(model, plan) as autocast:
        return fit(
            model,
            recipe.train,
            plan,
            objective,
            train_rows=rows,
            validation_rows=validation,
            reduce=answers_of,
            score=lambda answers, targets: score_answers(answers, targets, labels.names, full=False),
            name_rows=lambda numbers: [train.names[number] for number in numbers],
            frozen_norms=frozen_norms(model),
            folders=folders,
            pace=pace,
            keeper=None if pace is None else _weight_keeper(model),
            autocast=autocast,
        )


def _weight_keeper(model: nn.Module) -> WeightKeeper:
    return WeightKeeper(lambda: trained_state(model), lambda state: restore_state(model, state))
