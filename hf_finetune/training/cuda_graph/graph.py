"""One captured piece: forward and backward pass as a CUDA graph, and the same pass as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hf_finetune.training.objective import ModelBatch

Loss = Callable[[ModelBatch, Tensor], Tensor]  # of a piece and the update's normaliser
Inputs = tuple[Tensor | None, ...]  # the fields of a Prepared, and the normaliser


class PieceGraph:
    """Forward and backward pass of one piece, adding to `gradients`, float32 and one after the other in memory.

    Raises RuntimeError where a weight is not float32, or there is none.
    """

    def __init__(self, loss_of: Loss, weights: Sequence[nn.Parameter], inputs: Inputs) -> None:
        if not weights or any(weight.dtype != torch.float32 for weight in weights):
            raise RuntimeError("a trained weight is not float32" if weights else "no weight has a gradient")
        self._weights = list(weights)
        self._inputs = tuple(None if value is None else value.clone() for value in inputs)
        self.gradients = torch.zeros(sum(weight.numel() for weight in weights), device=weights[0].device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            loss = _loss(loss_of, self._inputs)
            self.gradients += flat(torch.autograd.grad(loss, self._weights))
            self._loss = loss.detach()

    def replay(self, inputs: Inputs) -> Tensor:
        """The loss of these inputs; it is overwritten by the next call."""
        for place, value in zip(self._inputs, inputs, strict=True):
            if place is not None and value is not None:
                place.copy_(value)
        self._graph.replay()
        return self._loss

    def zero_gradients(self) -> None:
        """Before an update: zero, and where the graph adds to them."""
        self.gradients.zero_()
        for weight, gradient in self._each():
            weight.grad = gradient

    def adopt_gradients(self) -> None:
        """What the weights have gathered in this update so far goes to where the graph adds."""
        for weight, gradient in self._each():
            if weight.grad is not None:
                gradient += weight.grad
            weight.grad = gradient

    def _each(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        sizes = [weight.numel() for weight in self._weights]
        for weight, part in zip(self._weights, self.gradients.split(sizes), strict=True):
            yield weight, part.view_as(weight)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers one after the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _loss(loss_of: Loss, inputs: Inputs) -> Tensor:
    *values, normaliser = inputs
    if normaliser is None:
        raise ValueError("a normaliser is expected")
    return loss_of(ModelBatch(*values), normaliser)  # pyright: ignore[reportArgumentType]


def gradients_of(loss_of: Loss, weights: Sequence[nn.Parameter], inputs: Inputs) -> tuple[Tensor | None, ...]:
    """The piece's gradients; None for a weight that it does not use. Raises RuntimeError where it waits for the GPU."""
    with _no_waiting():
        return torch.autograd.grad(_loss(loss_of, inputs), weights, allow_unused=True)


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Inside, what waits for the GPU raises RuntimeError. A capture would fail on it too, but then torch's random
    numbers stay in capture (torch 2.11)."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode", category=UserWarning)
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
