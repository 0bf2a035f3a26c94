"""Losses whose parts add up: summed over any chunks of an update they are the update's mean.

A `RowLoss` is what a task trains by: one number a row. Owns cross-entropy, weights by class, the mix of two labels, and
the weight of each row. The caller sums `row_weights` over every chunk and rank of one update and passes the sum as
`normaliser`; with no weights that sum is the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hf_finetune.errors import TrainingError

RowLoss = Callable[[Tensor, Tensor], Tensor]  # logits float32 [B, C], labels int64 [B] or float32 [B, K] -> float [B]


class CrossEntropy:
    """`torch.nn.functional.cross_entropy` of each row, with `weight` float [C] and `label_smoothing`."""

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        self._smoothing, self._weights = label_smoothing, class_weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._weights is not None:
            self._weights = self._weights.to(logits.device, torch.float32)  # once: a copy each time waits for the GPU
        return functional.cross_entropy(
            logits, labels, weight=self._weights, reduction="none", label_smoothing=self._smoothing
        )


class Weighted:
    """Another loss of each row, times the weight of the row's class (float [C])."""

    def __init__(self, loss: RowLoss, class_weights: Tensor) -> None:
        self._loss, self._weights = loss, class_weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self._weights = self._weights.to(logits.device, torch.float32)
        return self._weights[labels] * self._loss(logits, labels)


class Adjusted:
    """Another loss of each row, of logits plus `offsets` float [C] (logit adjustment, Menon et al. 2021,
    arXiv 2007.07314)."""

    def __init__(self, loss: RowLoss, offsets: Tensor) -> None:
        self._loss, self._offsets = loss, offsets

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self._offsets = self._offsets.to(logits.device, torch.float32)  # once, as above
        return self._loss(logits + self._offsets, labels)


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


def mean_loss(
    loss: RowLoss,
    logits: Tensor,
    labels: Tensor,
    *,
    normaliser: Tensor | float,
    partner_labels: Tensor | None = None,
    mix: Tensor | None = None,
) -> Tensor:
    """Sum over the rows of λ·loss(label) + (1−λ)·loss(partner), divided by `normaliser`; a float32 scalar.

    logits [B, C] of any float dtype (computed in float32); labels, partner_labels int64 [B]; mix float [B]. With
    `normaliser = row_weights(…).sum()` of one chunk and no mixing, that of CrossEntropy is torch's mean of that chunk.
    The mix of losses is that of mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899).
    Raises ValueError where only one of `partner_labels` and `mix` is given, TrainingError for a loss of another shape.
    """
    if (partner_labels is None) != (mix is None):
        raise ValueError("partner_labels and mix are expected together")
    logits = logits.float()
    losses = loss(logits, labels)
    if losses.shape != labels.shape[:1]:
        raise TrainingError(
            f"loss=: one number a row is expected, [{len(labels)}] for this batch; found {list(losses.shape)}.",
            'Leave the mean to the training: most losses of torch take reduction="none".',
        )
    if partner_labels is not None and mix is not None:
        share = mix.to(logits.device, torch.float32)
        losses = share * losses + (1 - share) * loss(logits, partner_labels)
    return losses.sum() / normaliser


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Of the likeliest class against all others together: float [B] of logits [B, C]; the logit itself of one class."""
    if logits.shape[1] < 2:
        return logits.amax(1)
    ranked = logits.sort(1, descending=True).values
    return ranked[:, 0] - ranked[:, 1:].logsumexp(1)
