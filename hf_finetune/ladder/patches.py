"""Which patches of an image a training step may leave out, for one backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import nn

from hf_finetune.backbones.split import Watch
from hf_finetune.backbones.tokens import TokenDropper, extra_tokens
from hf_finetune.types import BackboneFacts

# Fewer patches than this are cheap already, and each is dear.
LEAST_PATCHES = 100


class Patches:
    """The tokens of a backbone, counted once when they are first asked for."""

    def __init__(self, backbone: Any, facts: BackboneFacts) -> None:
        self._backbone, self._facts = backbone, facts

    def dropper(self, keep: float) -> TokenDropper | None:
        """What leaves patches out; None where all are kept, or this backbone needs every one."""
        if keep >= 1 or self._tokens is None:
            return None
        return TokenDropper(keep, *self._tokens)

    @contextmanager
    def left_out(self, keep: float) -> Iterator[TokenDropper | None]:
        """Leave them out of every whole forward pass in the block; gives what does it, None where all are kept."""
        dropper = self.dropper(keep)
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
