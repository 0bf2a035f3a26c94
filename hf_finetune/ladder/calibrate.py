"""Short measurements instead of guesses: seconds a forward pass and an update take, on this machine, today."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pieces import free_cached_memory, is_out_of_memory

REPEATS = 2


def seconds_per_update(
    model: nn.Module,
    objective: Objective,
    rows: BatchRows,
    *,
    micro_batch: int,
    batch: int,
    frozen_norms: Sequence[nn.Module],
    autocast: torch.dtype | None,
) -> float:
    """Seconds of forward and backward for `batch` images of this process; the fastest of two after one to warm up.

    Gradients are thrown away, and no weight changes.
    """
    piece = min(micro_batch, batch, len(rows))
    rows.set_epoch(0)
    taken: list[float] = []
    while len(taken) < 1 + REPEATS:
        where = np.arange(len(taken) * piece, (len(taken) + 1) * piece) % len(rows)
        try:
            taken.append(_seconds(model, objective, rows, where, frozen_norms, autocast))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or piece == 1:
                raise
            piece, taken = piece // 2, []
            free_cached_memory()
    return min(taken[1:]) * batch / piece


def _seconds(
    model: nn.Module,
    objective: Objective,
    rows: BatchRows,
    where: np.ndarray,
    frozen_norms: Sequence[nn.Module],
    autocast: torch.dtype | None,
) -> float:
    """One forward and backward pass of these rows, after which the model is as before."""
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    started = time.perf_counter()
    batch = {name: values.to(device) for name, values in rows.__getitems__(where.tolist()).items()}
    model.train()
    for norm in frozen_norms:
        norm.eval()
    try:
        prepared = objective.prepare(batch)
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            logits = model(pixel_values=prepared.pixel_values).logits
            loss = objective.loss(logits, prepared, objective.row_weights(batch).sum())
        loss.backward()
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in statistics:
            buffer.copy_(before)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
