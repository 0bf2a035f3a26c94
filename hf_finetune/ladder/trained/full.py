"""The `full` rung: adapters at every depth (or all weights), augmentation, patches left out, the HF Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import EvalRows, TrainRows
from hf_finetune.ladder.trained.objective import ClassificationObjective, WithTokenOrder, augmented
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.ladder.trained.rung import TrainedRung
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.tasks.classification import class_counts
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.types import Labels, PixelRows, Plan, Preprocess, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


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


class Whole(TrainedRung):
    """All of `model`, on augmented images of `rows`."""

    def __init__(
        self, model: nn.Module, context: RunContext, rows: Mapping[Split, PixelRows], patches: Patches
    ) -> None:
        super().__init__(model, context, context.plan, rows, EvalRows(rows["validation"]))
        self._patches = patches

    @contextmanager
    def _training(self, keep: float) -> Iterator[tuple[Objective, BatchRows]]:
        context = self._ready
        with self._patches.left_out(keep) as dropper:
            yield objective_and_rows(
                context.recipe,
                context.plan,
                context.facts.preprocess,
                context.index.labels,
                self._rows["train"],
                dropper,
            )
