"""The ladder's short cuts (fewer patches, the last block for the class token alone) on a model without weights.

Whether a head reads the class token alone is tried on real images in a run (ladder/probe/last_block.py); here it is
read from the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from hf_finetune.backbones.counting.step_trace import BATCH
from hf_finetune.backbones.surgery.class_token import class_token_only
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.backbones.surgery.token_dropper import LEAST_PATCHES, TokenDropper, extra_tokens

# transformers' heads that read the first token and no other (transformers 5.23).
_FIRST_TOKEN = {"ViTForImageClassification", "ViTMSNForImageClassification", "DeiTForImageClassification"}


@contextmanager
def short_steps(base: Any, blocks: Sequence[str], size: tuple[int, int], patches: float) -> Iterator[None]:
    """Inside, a step of the backbone `base` (meta) sees this share of the patches, and its last block the class token,
    each where the ladder would do so. For batches of `step_trace.BATCH`."""
    with ExitStack() as stack:
        if blocks and _reads_first_token(base):
            stack.enter_context(class_token_only(base.get_submodule(blocks[-1])))
        dropper = _dropper(base, blocks, size, patches)
        if dropper is not None:
            dropper.tell(torch.zeros(BATCH, dropper.patches, device="meta"))
            stack.enter_context(dropper.before(base.get_submodule(blocks[0])))
        yield


def _reads_first_token(base: Any) -> bool:
    if base.config.model_type == "timm_wrapper":
        return getattr(base.get_submodule("timm_model"), "global_pool", None) == "token"
    return type(base).__name__ in _FIRST_TOKEN


@torch.no_grad()
def _dropper(base: Any, blocks: Sequence[str], size: tuple[int, int], patches: float) -> TokenDropper | None:
    if patches >= 1 or not blocks:
        return None
    trains = {module: module.training for module in base.modules()}
    watch = Watch([], base.get_submodule(blocks[0]))
    base.eval()
    try:
        with watch:
            base(pixel_values=torch.zeros(1, 3, *size, device="meta"))
    finally:
        for module, before in trains.items():
            module.training = before
    hidden = watch.hidden
    extra = extra_tokens(base, hidden.shape[1]) if hidden is not None and hidden.ndim == 3 else None
    if hidden is None or extra is None or hidden.shape[1] - extra < LEAST_PATCHES:
        return None
    return TokenDropper(patches, extra, hidden.shape[1] - extra)
