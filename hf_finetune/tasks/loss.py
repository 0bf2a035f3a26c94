"""Cross-entropy whose parts add up: summed over any chunks of an update it is the update's mean.

Owns the loss of a chunk of rows and the weight of each row. The caller sums `row_weights` over every chunk and rank of
one update and passes the sum as `normaliser`; with no weights that sum is the number of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def row_weights(
    labels: Tensor, partner_labels: Tensor | None, mix: Tensor | None, class_weights: Tensor | None
) -> Tensor:
    """What each row counts in the mean: float32 [B].

    labels, partner_labels int64 [B]; mix float [B], the share λ of `labels`; class_weights float [C]. A mixed row
    counts λ·w[label] + (1−λ)·w[partner], so that mixing a class with itself changes nothing.
    """
    if class_weights is None:
        return torch.ones(labels.shape, dtype=torch.float32, device=labels.device)
    weights = class_weights.to(labels.device, torch.float32)
    own = weights[labels]
    if partner_labels is None or mix is None:
        return own
    share = mix.to(labels.device, torch.float32)
    return share * own + (1 - share) * weights[partner_labels]


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    normaliser: Tensor | float,
    partner_labels: Tensor | None = None,
    mix: Tensor | None = None,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Sum over the rows of λ·CE(label) + (1−λ)·CE(partner), divided by `normaliser`; a float32 scalar.

    logits [B, C] of any float dtype (computed in float32); labels, partner_labels int64 [B]; mix float [B];
    class_weights float [C]. CE is `torch.nn.functional.cross_entropy` with `weight` and `label_smoothing`, so with
    `normaliser = row_weights(…).sum()` of one chunk and no mixing the result is torch's mean of that chunk. The mix of
    losses is that of mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899).
    Raises ValueError where only one of `partner_labels` and `mix` is given.
    """
    if (partner_labels is None) != (mix is None):
        raise ValueError("partner_labels and mix are expected together")
    logits = logits.float()
    weight = None if class_weights is None else class_weights.to(logits.device, torch.float32)

    def by_row(targets: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, targets, weight=weight, reduction="none", label_smoothing=label_smoothing
        )

    losses = by_row(labels)
    if partner_labels is not None and mix is not None:
        share = mix.to(logits.device, torch.float32)
        losses = share * losses + (1 - share) * by_row(partner_labels)
    return losses.sum() / normaliser
