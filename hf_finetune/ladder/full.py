"""The `full` rung: adapters at every depth (or all weights), augmentation, patches left out, the HF Trainer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.tokens import TokenDropper
from hf_finetune.data.augment import Augmenter
from hf_finetune.data.dataset import TrainRows
from hf_finetune.inference import Normaliser
from hf_finetune.ladder.objective import ClassificationObjective, WithTokenOrder, augmented
from hf_finetune.ladder.rung import class_counts
from hf_finetune.recipe import Recipe
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.range_test import sweep
from hf_finetune.types import Labels, PixelRows, Plan, Preprocess


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
