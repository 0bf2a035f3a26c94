"""What training needs from the data and the task, as one interface. Composed in the ladder, which may import both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ModelBatch:
    """A batch as the model and the loss see it.

    `pixel_values` float [B, 3, H, W]; `labels` int64 [B] or float32 [B, K]; where mixed, `partner_labels` likewise and
    `mix` [B], the share of `labels` in each image.
    """

    pixel_values: torch.Tensor
    labels: torch.Tensor
    partner_labels: torch.Tensor | None = None
    mix: torch.Tensor | None = None


class Objective(Protocol):
    """Turns batches of stored pixels into a loss."""

    def prepare(self, batch: Batch) -> ModelBatch:
        """Augment and normalise, on the batch's device."""
        ...

    def normalise(self, batch: Batch) -> torch.Tensor:
        """Evaluation pixels: uint8 [B, 3, H, W] → float [B, 3, H, W]."""
        ...

    def row_weights(self, batch: Batch) -> torch.Tensor:
        """How much each row counts in the mean loss, float [B]."""
        ...

    def worth(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How well each row is answered, float [B] from 0 to 1, by logits float32 [B, C]."""
        ...

    def loss(self, logits: torch.Tensor, prepared: ModelBatch, normaliser: torch.Tensor) -> torch.Tensor:
        """Sum of the rows' weighted losses divided by `normaliser`, a scalar."""
        ...
