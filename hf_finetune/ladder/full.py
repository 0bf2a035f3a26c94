"""The `full` rung: adapters at every depth (or all weights), augmentation, patches left out, the HF Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from hf_finetune.adapters.low_memory import covers, low_memory_lora
from hf_finetune.adapters.trained import frozen_norms, restore_state, trained_state
from hf_finetune.backbones.tokens import TokenDropper
from hf_finetune.data.augment import Augmenter
from hf_finetune.data.dataset import EvalRows, TrainRows
from hf_finetune.inference import Normaliser
from hf_finetune.ladder.objective import ClassificationObjective, WithTokenOrder, augmented
from hf_finetune.recipe import Recipe
from hf_finetune.tasks.scoring import score
from hf_finetune.training.fit import Fit, FitFolders, WeightKeeper, fit
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pace import Pace
from hf_finetune.training.range_test import sweep
from hf_finetune.types import Labels, PixelRows, Plan, Preprocess


def run_full(
    model: nn.Module,
    recipe: Recipe,
    plan: Plan,
    preprocess: Preprocess,
    labels: Labels,
    *,
    train: PixelRows,
    validation: PixelRows,
    folders: FitFolders,
    pace: Pace | None = None,
    dropper: TokenDropper | None = None,
    first_block: nn.Module | None = None,
) -> Fit:
    """Train `model` (adapter applied) on `train`; afterwards it holds the weights that were best on `validation`.

    `dropper` leaves patches out before `first_block`.
    """
    objective, rows = objective_and_rows(recipe, plan, preprocess, labels, train, dropper)
    with training_forms(model, plan) as autocast, ExitStack() as stack:
        if dropper is not None and first_block is not None:
            stack.enter_context(dropper.before(first_block))
        return fit(
            model,
            recipe.train,
            plan,
            objective,
            train_rows=rows,
            validation_rows=EvalRows(validation),
            score=lambda logits, targets: score(logits, targets, labels.names, full=False),
            name_rows=lambda numbers: [train.names[number] for number in numbers],
            frozen_norms=frozen_norms(model),
            folders=folders,
            pace=pace,
            keeper=None if pace is None else weight_keeper(model),
            autocast=autocast,
        )


def weight_keeper(model: nn.Module) -> WeightKeeper:
    """Keeps the trained weights of `model` in memory."""
    return WeightKeeper(lambda: trained_state(model), lambda state: restore_state(model, state))


@contextmanager
def training_forms(model: nn.Module, plan: Plan) -> Iterator[bool]:
    """LoRA layers in their training form where all of them have one; yields whether autocast is still needed.

    On CPUs alone, where autocast's copies cost a fifth of a step (docs/RESULTS.md); elsewhere it is the Trainer's.
    """
    if plan.device.value == "cpu" and plan.precision.value == "bf16" and covers(model):
        with low_memory_lora(model):
            yield False
    else:
        yield True


def run_range_test(
    model: nn.Module,
    recipe: Recipe,
    plan: Plan,
    preprocess: Preprocess,
    labels: Labels,
    *,
    train: PixelRows,
    low: float,
    high: float,
    steps: int,
    folder: Path,
) -> tuple[list[float], list[float]]:
    """Learning rates and losses of a range test with this recipe's model, data and augmentation."""
    objective, rows = objective_and_rows(recipe, plan, preprocess, labels, train, None)
    return sweep(
        model,
        recipe.train,
        plan,
        objective,
        rows=rows,
        name_rows=lambda numbers: [train.names[number] for number in numbers],
        frozen_norms=frozen_norms(model),
        low=low,
        high=high,
        steps=steps,
        folder=folder,
    )


def objective_and_rows(
    recipe: Recipe, plan: Plan, preprocess: Preprocess, labels: Labels, train: PixelRows, dropper: TokenDropper | None
) -> tuple[Objective, BatchRows]:
    """The loss on augmented rows, and the rows that it takes."""
    augmenter = Augmenter(recipe.augment, preprocess, plan.train_side.value)
    objective = ClassificationObjective(
        recipe, class_counts(train, labels), augmented(augmenter, dropper), Normaliser(preprocess)
    )
    rows: BatchRows = TrainRows(train, augmenter, seed=recipe.train.seed)
    return objective, rows if dropper is None else WithTokenOrder(rows, dropper.patches, recipe.train.seed)


def class_counts(rows: PixelRows, labels: Labels) -> list[int]:
    """How many rows each class has."""
    return np.bincount(rows.labels, minlength=len(labels.names)).tolist()
