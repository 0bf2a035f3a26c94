"""Walks through a model's modules that an update would take every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a forward pass of the module, as it is now, changes its running statistics."""
    return module.training and any(
        name in ("running_mean", "running_var") for name, _ in module.named_buffers(recurse=False)
    )


@contextmanager
def listed_weights(model: nn.Module) -> Iterator[None]:
    """Inside, `model.zero_grad()` goes through a list of the trained weights instead of some 800 modules, which takes
    the host longer than a small model's backward pass takes a GPU. What is trained must not change meanwhile."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def zero_grad(set_to_none: bool = True) -> None:
        for weight in weights:
            if set_to_none:
                weight.grad = None
            elif weight.grad is not None:
                weight.grad.zero_()

    model.zero_grad = zero_grad
    try:
        yield
    finally:
        model.__dict__.pop("zero_grad", None)
