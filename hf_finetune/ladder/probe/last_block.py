"""Whether the ladder may run the last block for the class token alone, and doing so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.surgery.class_token import class_token_only, reads_class_token_only
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_pass import CHECKED_ROWS, watch_of
from hf_finetune.machine import processes
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import PixelRows

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


@contextmanager
def short_last_block(
    model: nn.Module, backbone: nn.Module, context: RunContext, rows: PixelRows, autocast: torch.dtype | None
) -> Iterator[bool]:
    """Inside, `model` runs its last block for the class token alone, where that changes nothing that its head gets
    for the first of `rows`; yields whether it does."""
    blocks = context.facts.blocks
    last = backbone.get_submodule(blocks[-1]) if blocks else None
    if last is None or not processes.agree(_may_be_short(model, last, context, rows, autocast)):
        yield False
        return
    with class_token_only(last):
        yield True


def _may_be_short(
    model: nn.Module, last: nn.Module, context: RunContext, rows: PixelRows, autocast: torch.dtype | None
) -> bool:
    pixels = rows.gather(np.arange(min(CHECKED_ROWS, len(rows))))
    watch = watch_of(model, context.facts.head, None)
    extractor = FeatureExtractor(Eager(model, watch, autocast), Normaliser(context.facts.preprocess), len(pixels))
    return reads_class_token_only(model, last, lambda: extractor(pixels)[0])
