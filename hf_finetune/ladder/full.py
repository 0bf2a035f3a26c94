"""The `full` rung: adapters at every depth (or all weights), augmentation, the HF Trainer.

Composes what data, task and training own: this is the only place where the three meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.data.augment import Augmenter
from hf_finetune.data.dataset import EvalRows, TrainRows, prepare
from hf_finetune.inference import Normaliser
from hf_finetune.recipe import Recipe
from hf_finetune.tasks.loss import classification_loss, row_weights
from hf_finetune.tasks.scoring import score
from hf_finetune.training.fit import Fit, FitFolders, fit
from hf_finetune.training.objective import Batch, Objective, Prepared
from hf_finetune.training.range_test import sweep
from hf_finetune.types import Labels, PixelRows, Plan, Preprocess


class ClassificationObjective(Objective):
    """Cross-entropy on augmented rows, weighted and smoothed as the recipe says."""

    def __init__(
        self, recipe: Recipe, augmenter: Augmenter, preprocess: Preprocess, label_counts: Sequence[int]
    ) -> None:
        weights = recipe.task.weights_for(label_counts)
        self._augmenter = augmenter
        self._normaliser = Normaliser(preprocess)
        self._smoothing = recipe.task.label_smoothing
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def prepare(self, batch: Batch) -> Prepared:
        return Prepared(*prepare(batch, self._augmenter))

    def normalise(self, batch: Batch) -> torch.Tensor:
        return self._normaliser(batch)

    def row_weights(self, batch: Batch) -> torch.Tensor:
        return row_weights(batch["labels"], batch.get("partner_labels"), batch.get("mix"), self._weights)

    def loss(self, logits: torch.Tensor, prepared: Prepared, normaliser: torch.Tensor) -> torch.Tensor:
        return classification_loss(
            logits,
            prepared.labels,
            normaliser=normaliser,
            partner_labels=prepared.partner_labels,
            mix=prepared.mix,
            label_smoothing=self._smoothing,
            class_weights=self._weights,
        )


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
) -> Fit:
    """Train `model` (adapter applied) on `train`; afterwards it holds the weights that were best on `validation`."""
    objective, rows = _objective_and_rows(recipe, plan, preprocess, labels, train)
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
    )


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
    objective, rows = _objective_and_rows(recipe, plan, preprocess, labels, train)
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


def _objective_and_rows(
    recipe: Recipe, plan: Plan, preprocess: Preprocess, labels: Labels, train: PixelRows
) -> tuple[Objective, TrainRows]:
    augmenter = Augmenter(recipe.augment, preprocess, plan.train_side.value)
    counts = np.bincount(train.labels, minlength=len(labels.names)).tolist()
    objective = ClassificationObjective(recipe, augmenter, preprocess, counts)
    return objective, TrainRows(train, augmenter, seed=recipe.train.seed)
