"""Short measurements instead of guesses: seconds a forward pass and an update take, on this machine, today."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.machine import processes
from hf_finetune.training.cuda_graph.captured import WARM, CapturedPieces, may_capture
from hf_finetune.training.objective import ModelBatch, Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pieces import free_cached_memory, is_out_of_memory

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

REPEATS = 2
# A piece that takes longer is bound by the GPU, and a graph of it gains too little to be measured.
LONG_S = 0.2


def seconds_per_update(
    model: nn.Module,
    objective: Objective,
    rows: BatchRows,
    *,
    micro_batch: int,
    batch: int,
    frozen_norms: Sequence[nn.Module],
    autocast: torch.dtype | None,
    cuda_graphs: bool = False,
) -> float:
    """Seconds of forward and backward for `batch` images of this process; the fastest of two after one to warm up,
    with `cuda_graphs` of two by a graph if there can be one.

    Gradients are thrown away, and no weight changes.
    """
    step = _Step(model, objective, frozen_norms, autocast, cuda_graphs)
    try:
        return batch * _image_seconds(step, rows, min(micro_batch, batch, len(rows)), cuda_graphs)
    finally:
        step.drop_graph()


def _image_seconds(step: _Step, rows: BatchRows, piece: int, cuda_graphs: bool) -> float:
    """Seconds an image in pieces of `piece` rows, or of fewer where memory is short."""
    rows.set_epoch(0)
    taken: list[float] = []
    while len(taken) < 1 + REPEATS or (cuda_graphs and min(taken) < LONG_S and len(taken) < 1 + REPEATS + WARM):
        where = np.arange(len(taken) * piece, (len(taken) + 1) * piece) % len(rows)
        try:
            taken.append(step.seconds(rows, where))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or piece == 1:
                raise
            step.drop_graph()
            piece, taken = piece // 2, []
            free_cached_memory()
    return min(taken[1:]) / piece


class _Step:
    """One forward and backward pass after the other, each leaving the model as it was."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        frozen_norms: Sequence[nn.Module],
        autocast: torch.dtype | None,
        cuda_graphs: bool,
    ) -> None:
        self._model, self._objective, self._frozen_norms = model, objective, frozen_norms
        self._autocast = autocast
        self._device = next(model.parameters()).device
        self._captured = CapturedPieces(self._loss, model) if cuda_graphs else None

    def seconds(self, rows: BatchRows, where: np.ndarray) -> float:
        """What these rows take."""
        statistics = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        started = time.perf_counter()
        batch = {name: values.to(self._device) for name, values in rows.__getitems__(where.tolist()).items()}
        self._model.train()
        for norm in self._frozen_norms:
            norm.eval()
        try:
            self._take(self._objective.prepare(batch), self._objective.row_weights(batch).sum())
        finally:
            self._model.zero_grad(set_to_none=True)
            for buffer, before in statistics:
                buffer.copy_(before)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def drop_graph(self) -> None:
        """Give back the memory of what was captured."""
        if self._captured is not None:
            self._captured.drop()

    def _take(self, prepared: ModelBatch, normaliser: torch.Tensor) -> None:
        if self._captured is not None:
            self._captured.begin_update()
            if self._captured.take(prepared, normaliser) is not None:
                return
        self._loss(prepared, normaliser).backward()

    def _loss(self, prepared: ModelBatch, normaliser: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None):
            logits = self._model(pixel_values=prepared.pixel_values).logits
            return self._objective.loss(logits, prepared, normaliser)


AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def update_seconds(model: nn.Module, context: RunContext, objective: Objective, rows: BatchRows) -> float:
    """Seconds of an update with the effective batch, of this loss on these rows; the slowest process's."""
    plan = context.plan
    with training_forms(model, plan) as autocast:
        seconds = seconds_per_update(
            model,
            objective,
            rows,
            micro_batch=plan.micro_batch.value,
            batch=plan.effective_batch.value // context.machine.world_size,
            frozen_norms=frozen_norms(model),
            autocast=AUTOCAST.get(plan.precision.value) if autocast else None,
            cuda_graphs=may_capture(context.recipe.train, plan),
        )
    return max(processes.gather(seconds))
