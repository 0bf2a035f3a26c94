"""What the trained rungs share: LoRA layers in their training form, and one call of the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from hf_finetune.adapters.low_memory import covers, low_memory_lora
from hf_finetune.adapters.trained import frozen_norms, restore_state, trained_state
from hf_finetune.recipe import Recipe
from hf_finetune.tasks.scoring import answers_of, score_answers
from hf_finetune.training.fit import Fit, FitFolders, WeightKeeper, fit
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pace import Pace
from hf_finetune.types import Labels, PixelRows, Plan


@contextmanager
def training_forms(model: nn.Module, plan: Plan) -> Iterator[bool]:
    """LoRA layers in their training form where all of them have one; yields whether autocast is still needed.

    Autocast's copies cost a fifth of a step on CPUs (docs/RESULTS.md), and a GPU waits until each is asked for.
    """
    if plan.device.value in ("cpu", "cuda") and plan.precision.value == "bf16" and covers(model):
        with low_memory_lora(model):
            yield False
    else:
        yield True


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


def class_counts(rows: PixelRows, labels: Labels) -> list[int]:
    """How many rows each class has."""
    return np.bincount(rows.labels, minlength=len(labels.names)).tolist()
