"""Which patches of an image a training step may leave out: whether this backbone allows it, and how many the head it
starts from can do without.

A head that was solved on whole images may say nothing sensible of a quarter of them (drawings, small objects); training
would then spend its time on learning the head anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.backbones.surgery.token_dropper import LEAST_PATCHES, TokenDropper, extra_tokens
from hf_finetune.machine import processes
from hf_finetune.training.autocast import autocast
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pieces import cut
from hf_finetune.types import BackboneFacts

logger = logging.getLogger(__name__)


ROWS = 64
# Of the answers that are right with all patches, the part that must stay right. Measured with ViT-Tiny (2026-11-25,
# training images, all patches / half / a quarter): TrashNet .84 / .82 / .76, where a quarter trains best in the same
# time; digits of 8 × 8 .99 / .86 / .48, where it ended below the probe (.891 of .942), and half above it (.946).
STILL_RIGHT = 0.75
Parts = tuple[Objective, BatchRows]  # a loss, and the rows that it takes


class Patches:
    """The tokens of a backbone, counted once when they are first asked for."""

    def __init__(self, backbone: Any, facts: BackboneFacts) -> None:
        self._backbone, self._facts = backbone, facts

    def dropper(self, share: float) -> TokenDropper | None:
        """What leaves patches out; None where all are kept, or this backbone needs every one."""
        if share >= 1 or self._tokens is None:
            return None
        return TokenDropper(share, *self._tokens)

    @contextmanager
    def left_out(self, share: float) -> Iterator[TokenDropper | None]:
        """Leave them out of every whole forward pass in the block; gives what does it, None where all are kept."""
        dropper = self.dropper(share)
        with nullcontext() if dropper is None else dropper.before(self._backbone.get_submodule(self._facts.blocks[0])):
            yield dropper

    @cached_property
    def _tokens(self) -> tuple[int, int] | None:
        """Extra tokens and patches that enter the first block; None where none may, or need, be left out."""
        facts = self._facts
        if not facts.blocks:
            return None
        tokens = token_count(self._backbone, facts.blocks[0], (facts.preprocess.height, facts.preprocess.width))
        extra = None if tokens is None else extra_tokens(self._backbone, tokens)
        if tokens is None or extra is None or tokens - extra < LEAST_PATCHES:
            return None
        return extra, tokens - extra


@torch.no_grad()
def token_count(backbone: nn.Module, block: str, size: tuple[int, int]) -> int | None:
    """How many tokens enter a block for an image of `size`; None where what enters is not [B, tokens, D]."""
    watch = Watch([], backbone.get_submodule(block))
    device = next(backbone.parameters()).device
    backbone.eval()  # in train mode a blank image would count in the statistics of trained norms
    with watch:
        backbone(pixel_values=torch.zeros(1, 3, *size, device=device))
    return watch.hidden.shape[1] if watch.hidden is not None and watch.hidden.ndim == 3 else None


def least_share(
    model: nn.Module, parts: Callable[[float], Parts], shares: Sequence[float], piece: int, dtype: torch.dtype | None
) -> float:
    """The smallest of `shares` (of an image's patches) with which the model as it is still answers well enough.

    `parts(share)`: the loss and the training rows with that share of their patches; `piece` of them go through the
    model at a time. The same on every process.
    """
    whole = right_answers(model, *parts(1.0), piece, dtype)
    found = 1.0
    for share in sorted(shares, reverse=True):
        right = right_answers(model, *parts(share), piece, dtype)
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
    model: nn.Module, objective: Objective, rows: BatchRows, piece: int, dtype: torch.dtype | None
) -> float:
    """How well (up to 64) training rows, spread evenly, are answered by the model as it is: of classes the share that
    is right."""
    rows.set_epoch(0)
    where = np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)
    device = next(model.parameters()).device
    model.eval()
    right = 0.0
    for batch in cut(rows.__getitems__(where.tolist()), piece):
        prepared = objective.prepare({name: values.to(device) for name, values in batch.items()})
        with autocast(device.type, dtype):
            logits = model(pixel_values=prepared.pixel_values).logits
        right += float(objective.worth(logits.float(), prepared.labels).sum())
    return right / len(where)
