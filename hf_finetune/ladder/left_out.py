"""How many patches training may leave out, by how the head that it starts from still answers without them.

A head that was solved on whole images may say nothing sensible of a quarter of them (drawings, small objects); training
would then spend its time on learning the head anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_finetune import processes
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pieces import cut

logger = logging.getLogger(__name__)
ROWS = 64
# Of the answers that are right with all patches, the part that must stay right. Measured with ViT-Tiny (2026-11-25,
# training images, all patches / half / a quarter): TrashNet .84 / .82 / .76, where a quarter trains best in the same
# time; digits of 8 × 8 .99 / .86 / .48, where it ended below the probe (.891 of .942), and half above it (.946).
STILL_RIGHT = 0.75


Parts = tuple[Objective, BatchRows]  # a loss, and the rows that it takes


def least_share(
    model: nn.Module, parts: Callable[[float], Parts], shares: Sequence[float], piece: int, autocast: torch.dtype | None
) -> float:
    """The smallest of `shares` (of an image's patches) with which the model as it is still answers well enough.

    `parts(share)`: the loss and the training rows with that share of their patches; `piece` of them go through the
    model at a time. The same on every process.
    """
    whole = right_answers(model, *parts(1.0), piece, autocast)
    found = 1.0
    for share in sorted(shares, reverse=True):
        right = right_answers(model, *parts(share), piece, autocast)
        if right < STILL_RIGHT * whole:
            logger.info(
                "With %.0f%% of their patches the head is right on %.0f%% of the images it starts with, with all on "
                "%.0f%%: %.0f%% are kept.",
                100 * share,
                100 * right,
                100 * whole,
                100 * found,
            )
            break
        found = share
    return processes.agree(found)


@torch.no_grad()
def right_answers(
    model: nn.Module, objective: Objective, rows: BatchRows, piece: int, autocast: torch.dtype | None
) -> float:
    """Share of (up to 64) training rows, spread evenly, that the model as it is answers rightly."""
    rows.set_epoch(0)
    where = np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)
    device = next(model.parameters()).device
    mixed: Any = nullcontext() if autocast is None else torch.autocast(device.type, autocast)
    model.eval()
    right = 0
    for batch in cut(rows.__getitems__(where.tolist()), piece):
        prepared = objective.prepare({name: values.to(device) for name, values in batch.items()})
        with mixed:
            logits = model(pixel_values=prepared.pixel_values).logits
        right += int((logits.argmax(dim=-1) == prepared.labels).sum())
    return right / len(where)
