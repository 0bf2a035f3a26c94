"""The average of a rung's weights: what a rung that may end at any moment is worth then, without a falling rate.

A learning rate that falls to nothing makes a rung's last weights its best, but wants to know beforehand when the last
update will be. The average of the weights under a constant rate is as good or better at every moment, and training on
does not spoil it (docs/experiments.md, "Averaged weights under a constant rate").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# Polynomial-decay averaging (Shamir & Zhang 2013, arXiv 1212.1824, section 4): after update t the average moves to the
# weights by (η + 1)/(t + η), so that half of it comes from the last 13 % of the updates, however many there were.
ETA = 4.0


class AveragedWeights(TrainerCallback):
    """Keeps the average of `weights` float [...] each, the ones that train, from update to update."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._weights = list(weights)
        self._averages: list[Tensor] = []

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        del args, control, kwargs
        if not self._averages:
            self._averages = [weight.detach().clone() for weight in self._weights]
            return
        share = (ETA + 1) / (state.global_step + ETA)
        torch._foreach_lerp_(self._averages, [weight.detach() for weight in self._weights], share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the weights are their average; nothing changes before the first update. They stay where they lie,
        since a CUDA graph reads them there."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for weight, average in zip(self._weights, self._averages, strict=bool(self._averages)):
            held = weight.detach().clone()
            weight.copy_(average)
            average.copy_(held)
