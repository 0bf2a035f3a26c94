"""Short measurements instead of guesses: seconds a forward pass and an update take, on this machine, today."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hf_finetune.training.objective import Objective, cut
from hf_finetune.training.order import BatchRows

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
    device = next(model.parameters()).device
    piece = min(micro_batch, batch, len(rows))
    rows.set_epoch(0)
    taken: list[float] = []
    for repeat in range(1 + REPEATS):
        where = np.arange(repeat * piece, (repeat + 1) * piece) % len(rows)
        started = time.perf_counter()
        inputs = {name: values.to(device) for name, values in rows.__getitems__(where.tolist()).items()}
        model.train()
        for norm in frozen_norms:
            norm.eval()
        for part in cut(inputs, piece):
            prepared = objective.prepare(part)
            with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
                logits = model(pixel_values=prepared.pixel_values).logits
                loss = objective.loss(logits, prepared, objective.row_weights(part).sum())
            loss.backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken[1:]) * batch / piece
