"""An update's pieces as one CUDA graph, so that the host asks for all kernels of a forward and backward pass at once.

A small model's piece is some thousand short kernels, and asking for one takes the host longer than running it takes the
GPU (docs/experiments.md, "A CUDA graph of a piece"). A piece is captured once a few of the same shapes have come. What
the graph gives is compared with the piece run as it is; where the two differ, something waits for the GPU in between or
memory is short, nothing is captured and every piece runs as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from hf_finetune.errors import first_line
from hf_finetune.machine.ranks import is_distributed
from hf_finetune.training.config import Train
from hf_finetune.training.cuda_graph.graph import Inputs, Loss, PieceGraph, flat, gradients_of
from hf_finetune.training.cuda_graph.module_walks import keeps_statistics
from hf_finetune.training.objective import ModelBatch
from hf_finetune.training.pieces import free_cached_memory
from hf_finetune.types import Plan

logger = logging.getLogger(__name__)

WARM = 3  # pieces run as they are first: by then kernels are chosen and workspaces allocated
# Largest distance of the graph's gradients from the piece's own, of their norm. bf16 rounds to 1 in 256.
APART = 0.02


def may_capture(train: Train, plan: Plan) -> bool:
    """Whether to try: on one GPU. Loss scaling, recomputed or streamed blocks and other processes do work of their own
    between the kernels."""
    return (
        train.cuda_graphs
        and plan.device.value == "cuda"
        and plan.precision.value != "fp16"
        and not plan.checkpointing.value
        and plan.stream.value == "off"
        and not is_distributed()
    )


class CapturedPieces:
    """Runs pieces of the updates of one training by a graph, where that is possible.

    `loss_of(prepared, normaliser)` is the scalar loss that `model` has on a piece; it must do the same whenever shapes
    are the same, and read nothing from tensors that later pieces put elsewhere.
    """

    def __init__(self, loss_of: Loss, model: nn.Module) -> None:
        self._loss_of, self._model = loss_of, model
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._shapes: object = None
        self._alike = 0
        self._graph: PieceGraph | None = None
        self._refused = False

    @property
    def captured(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def begin_update(self) -> None:
        """Before an update's first piece: the gradients are zero, and where the graph adds to them."""
        if self._graph is not None:
            self._graph.zero_gradients()

    def take(self, prepared: ModelBatch, normaliser: Tensor) -> Tensor | None:
        """The piece's loss, with its gradients added to the weights'; None where the caller has to run it."""
        if self._refused:
            return None
        inputs = (*(getattr(prepared, field.name) for field in fields(prepared)), normaliser)
        shapes = [None if value is None else (value.shape, value.dtype) for value in inputs]
        if self._graph is not None:
            return self._graph.replay(inputs) if shapes == self._shapes else None
        self._alike = self._alike + 1 if shapes == self._shapes else 1
        self._shapes = shapes
        if self._alike <= WARM:
            return None
        try:
            return self._capture(inputs)
        except RuntimeError as error:
            reason = first_line(error).rstrip(".")
        logger.info("Updates run kernel by kernel, not as one CUDA graph: %s.", reason)
        self._refused = True
        free_cached_memory()  # here nothing refers any more to what the attempt took
        return None

    def drop(self) -> bool:
        """Give the graph's memory back, if there is one, and say whether so; from now on every piece runs as it is."""
        had, self._graph, self._refused = self._graph is not None, None, True
        if had:
            free_cached_memory()
        return had

    def _capture(self, inputs: Inputs) -> Tensor:
        started = time.monotonic()
        _check_norms(self._model)
        _check_room(self._weights)
        # The piece is run twice; both, and without a graph the one, draw the same random numbers.
        random = torch.cuda.get_rng_state()
        try:
            expected = gradients_of(self._loss_of, self._weights, inputs)
            pairs = zip(self._weights, expected, strict=True)
            graph = PieceGraph(self._loss_of, [weight for weight, gradient in pairs if gradient is not None], inputs)
            torch.cuda.set_rng_state(random)
            loss = graph.replay(inputs)
            _check_same(graph.gradients, flat([gradient for gradient in expected if gradient is not None]))
        except RuntimeError:
            torch.cuda.set_rng_state(random)
            raise
        graph.adopt_gradients()
        self._graph = graph
        logger.debug("Updates run as one CUDA graph, captured in %.2f s.", time.monotonic() - started)
        return loss


def _check_norms(model: nn.Module) -> None:
    """Raise RuntimeError where a piece changes running statistics: it is run more than once for a capture."""
    if any(keeps_statistics(module) for module in model.modules()):
        raise RuntimeError("running statistics would count a piece more than once")


def _check_same(found: Tensor, expected: Tensor) -> None:
    """Raise RuntimeError unless the gradients are the same but for rounding."""
    apart, allowed = float((found - expected).norm()), APART * float(expected.norm())
    if not apart <= allowed:
        raise RuntimeError(f"its gradients differ by {apart:.3g}, {allowed:.3g} allowed")


def _check_room(weights: Sequence[nn.Parameter]) -> None:
    """Raise RuntimeError unless what a piece takes fits twice: a graph's memory serves nothing else, evaluation's comes
    beside it."""
    now, most = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    free, whole = torch.cuda.mem_get_info()
    limit = min(free + torch.cuda.memory_reserved(), int(whole * torch.cuda.get_per_process_memory_fraction()))
    needed = now + 2 * (most - now) + 2 * sum(4 * weight.numel() for weight in weights)
    if needed > limit:
        raise RuntimeError(f"it would take up to {needed / 1e9:.2f} GB of {limit / 1e9:.2f} GB")
