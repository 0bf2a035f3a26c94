"""Block checkpointing: blocks whose inner activations are made again in the backward pass instead of being kept.

Owns which blocks, and how. How many is the plan's: from the front, where it saves most, since by the time that the
first blocks are made again nothing of the later ones is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from hf_finetune.errors import ModelError


def recompute(model: nn.Module, blocks: Sequence[str], count: int) -> None:
    """Recompute the first `count` of the backbone's `blocks` in the backward pass; 0 recomputes none.

    Non-reentrant, so that adapters get gradients although nothing before the first block trains. Takes a backbone or a
    PEFT model around it. A backbone that offers it and repeats no block recomputes what it chooses itself. Raises
    ModelError where the architecture offers none.
    """
    base = _backbone(model)
    for name in blocks:
        base.get_submodule(name)._compiled_call_impl = None
    if count <= 0:
        return
    if not isinstance(base, PreTrainedModel) or not base.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(base).__name__} does not offer block checkpointing", "leave it off, or lower the micro-batch"
        )
    if not blocks:
        base.activation_checkpointing_enable({"use_reentrant": False})
    for name in blocks[:count]:
        block = base.get_submodule(name)
        # torch's own place for another way of calling a module (nn.Module.compile): `forward` is what the surgery of
        # the ladder and the training forms put theirs in, and take away again.
        block._compiled_call_impl = _recomputing(block)


@contextmanager
def recomputed(model: nn.Module, blocks: Sequence[str], count: int) -> Iterator[None]:
    """Inside, the first `count` blocks are recomputed, and afterwards none."""
    recompute(model, blocks, count)
    try:
        yield
    finally:
        recompute(model, blocks, 0)


def _recomputing(block: nn.Module) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not block.training or not torch.is_grad_enabled():
            return block._call_impl(*args, **kwargs)
        return checkpoint(block._call_impl, *args, use_reentrant=False, **kwargs)

    return call


def _backbone(model: nn.Module) -> Any:
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model
