"""What the trained rungs optimise: the task's loss or the program's own, on augmented pixels or on kept states.

Composes what data, task and backbones own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import prepare
from hf_finetune.data.augment.draws import uniform
from hf_finetune.tasks.loss import mean_loss
from hf_finetune.training.objective import Batch, ModelBatch, Objective
from hf_finetune.training.order import BatchRows

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

# Stream of draws.py for the order of patches; the augmenter's and the mixer's lie below 32.
TOKEN_STREAM = 64
TOKEN_ORDER = "token_order"


class TaskObjective(Objective):
    """The task's loss, rows weighted as the recipe says. `make` turns a batch into the model's input."""

    def __init__(
        self,
        context: RunContext,
        make: Callable[[Batch], ModelBatch],
        normalise: Callable[[Batch], torch.Tensor],
    ) -> None:
        self._make, self._normalise, self._target = make, normalise, context.target
        own = context.extensions.loss
        if isinstance(own, torch.nn.Module):
            own.to(context.machine.place)  # its weights, where it has any, lie where the logits do
        self._loss = self._target.row_loss(own)

    def prepare(self, batch: Batch) -> ModelBatch:
        return self._make(batch)

    def normalise(self, batch: Batch) -> torch.Tensor:
        return self._normalise(batch)

    def row_weights(self, batch: Batch) -> torch.Tensor:
        return self._target.row_weights(batch["labels"], batch.get("partner_labels"), batch.get("mix"))

    def worth(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._target.worth(logits, labels)

    def loss(self, logits: torch.Tensor, prepared: ModelBatch, normaliser: torch.Tensor) -> torch.Tensor:
        return mean_loss(
            self._loss,
            logits,
            prepared.labels,
            normaliser=normaliser,
            partner_labels=prepared.partner_labels,
            mix=prepared.mix,
        )


class WithTokenOrder:
    """Rows with a random order of patches drawn for each, by index and epoch: every split of an update agrees."""

    def __init__(self, rows: BatchRows, patches: int, seed: int) -> None:
        self._rows, self._patches, self._seed = rows, patches, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Handed on; the orders change with it too."""
        self._epoch = epoch
        self._rows.set_epoch(epoch)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        batch = self._rows.__getitems__(indices)
        numbers = uniform(self._seed, self._epoch, np.asarray(indices), TOKEN_STREAM, self._patches)
        return {**batch, TOKEN_ORDER: torch.from_numpy(numbers.astype(np.float32))}


def augmented(augmenter: Augmenter, dropper: TokenDropper | None) -> Callable[[Batch], ModelBatch]:
    """Stored pixels → augmented, normalised ones; the dropper is told which patches to keep."""

    def make(batch: Batch) -> ModelBatch:
        if dropper is not None:
            dropper.tell(batch[TOKEN_ORDER])
        pixels: dict[str, Any] = {name: values for name, values in batch.items() if name != TOKEN_ORDER}
        return ModelBatch(*prepare(pixels, augmenter))

    return make


def kept_states(dropper: TokenDropper | None) -> Callable[[Batch], ModelBatch]:
    """Kept hidden states, patches left out."""

    def make(batch: Batch) -> ModelBatch:
        hidden = batch["pixel_values"]
        if dropper is not None:
            dropper.tell(batch[TOKEN_ORDER])
            hidden = dropper(hidden)
        return ModelBatch(hidden, batch["labels"])

    return make
