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
    """Keeps the average of the weights of `model` that train, from update to update."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._averages: list[Tensor] = []

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        del args, control, kwargs
        if not self._averages:
            self._averages = [weight.detach().clone() for weight in self._weights]
            return
        share = (ETA + 1) / (state.global_step + ETA)
        # All at once: a kernel for each of some hundred weights would take a GPU's host longer than the update.
        weights = [weight.detach() for weight in self._weights]
        torch._foreach_lerp_(self._averages, weights, share)  # pyright: ignore[reportPrivateImportUsage]

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


def may_average(model: nn.Module, frozen_norms: Sequence[nn.Module]) -> bool:
    """Whether the average of its weights is a model: not with a norm that trains, whose running statistics are of other
    weights."""
    frozen = {id(norm) for norm in frozen_norms}
    statistics = ("running_mean", "running_var")
    return not any(
        name in statistics and id(module) not in frozen
        for module in model.modules()
        for name, _ in module.named_buffers(recurse=False)
    )
