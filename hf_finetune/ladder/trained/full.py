"""The `full` rung: adapters at every depth (or all weights), augmentation, patches left out, the HF Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import EvalRows, TrainRows
from hf_finetune.ladder.trained.objective import TaskObjective, WithTokenOrder, augmented
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.ladder.trained.rung import TrainedRung
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.types import Decision, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


class Full(TrainedRung):
    """All of `model`, on augmented images of `rows`."""

    def __init__(
        self, model: nn.Module, context: RunContext, rows: Mapping[Split, PixelRows], patches: Patches
    ) -> None:
        super().__init__(model, context, rows, EvalRows(rows["validation"]))
        self._patches = patches

    @property
    def learning_rate(self) -> Decision[float]:
        return self._context.plan.learning_rate

    @contextmanager
    def _training(self, share: float) -> Iterator[tuple[Objective, BatchRows]]:
        with self._patches.left_out(share) as dropper:
            yield on_augmented_images(self._context, self._rows["train"], dropper)


def on_augmented_images(
    context: RunContext, train: PixelRows, dropper: TokenDropper | None
) -> tuple[Objective, BatchRows]:
    """The loss on augmented images of `train`, and the rows that it takes."""
    recipe, preprocess = context.recipe, context.facts.preprocess
    augmenter = Augmenter(recipe.augment, preprocess, context.plan.train_side.value, context.extensions.transform)
    objective = TaskObjective(context, augmented(augmenter, dropper), Normaliser(preprocess))
    rows: BatchRows = TrainRows(train, augmenter, seed=recipe.train.seed)
    return objective, rows if dropper is None else WithTokenOrder(rows, dropper.patches, recipe.train.seed)
