"""A short measurement instead of a guess: the seconds that an update takes, on this machine, today."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch

from hf_finetune.training.autocast import autocast, autocast_type
from hf_finetune.training.config import Train
from hf_finetune.training.cuda_graph.captured import WARM, CapturedPieces, may_capture
from hf_finetune.training.cuda_graph.module_walks import keeps_statistics
from hf_finetune.training.fit import Trainable
from hf_finetune.training.objective import ModelBatch, Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pieces import fitting
from hf_finetune.types import Plan

REPEATS = 2
# A piece that takes longer is bound by the GPU, and a graph of it gains too little to be measured.
LONG_S = 0.2


def update_seconds(
    trainable: Trainable, train: Train, plan: Plan, objective: Objective, rows: BatchRows, batch: int
) -> float:
    """Seconds of forward and backward for `batch` images of this process; the fastest of two after one to warm up, of
    two by a CUDA graph if there can be one.

    Gradients are thrown away, and no weight changes.
    """
    step = _Step(trainable, objective, plan.precision.value, cuda_graphs=may_capture(train, plan))
    try:
        return batch * _image_seconds(step, rows, min(plan.micro_batch.value, batch, len(rows)))
    finally:
        step.drop_graph()


def _image_seconds(step: _Step, rows: BatchRows, piece: int) -> float:
    """Seconds an image in pieces of `piece` rows, or of fewer where memory is short."""
    rows.set_epoch(0)
    taken: list[float] = []
    while len(taken) < 1 + REPEATS or (step.captures and min(taken) < LONG_S and len(taken) < 1 + REPEATS + WARM):
        where = np.arange(len(taken) * piece, (len(taken) + 1) * piece) % len(rows)
        seconds = fitting(partial(step.seconds, rows, where), smallest=piece <= step.least)
        if seconds is None:
            step.drop_graph()
            piece, taken = max(step.least, piece // 2), []
        else:
            taken.append(seconds)
    return min(taken[1:]) / piece


class _Step:
    """One forward and backward pass after the other, each leaving the model as it was."""

    def __init__(self, trainable: Trainable, objective: Objective, precision: str, *, cuda_graphs: bool) -> None:
        self._model, self._objective, self._frozen_norms = trainable.model, objective, trainable.frozen_norms
        self._autocast = autocast_type(precision) if trainable.autocast else None
        self._device = next(self._model.parameters()).device
        self._captured = CapturedPieces(self._loss, self._model) if cuda_graphs else None

    @property
    def least(self) -> int:
        """Images in a piece: two where a batch norm trains."""
        kept = {id(norm) for norm in self._frozen_norms}
        self._model.train()
        return 2 if any(keeps_statistics(each) and id(each) not in kept for each in self._model.modules()) else 1

    @property
    def captures(self) -> bool:
        """Whether a CUDA graph may be measured."""
        return self._captured is not None

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
        with autocast(self._device.type, self._autocast):
            logits = self._model(pixel_values=prepared.pixel_values).logits
            return self._objective.loss(logits, prepared, normaliser)
