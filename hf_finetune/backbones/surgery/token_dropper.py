"""Leaving patches out in training (PatchDropout, Liu et al. 2022, arXiv 2208.07220): where that is possible, and how.

A transformer whose blocks know nothing of positions computes the same on fewer tokens; one with position biases,
windows or rotary embeddings does not, and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

# transformers' plain ViTs, read in their forward methods (transformers 5.23): positions are added once, before block 0.
_PLAIN = {"vit", "deit", "dinov2", "dinov2_with_registers", "vit_msn", "ijepa"}
_PLAIN_TIMM = {"VisionTransformer", "VisionTransformerDistilled"}
# Fewer patches than this are cheap already, and each is dear.
LEAST_PATCHES = 100


def extra_tokens(backbone: PreTrainedModel, tokens: int) -> int | None:
    """How many of the `tokens` that enter a block are no patches (class, registers), which come first and are kept.

    None: this backbone's blocks need every patch.
    """
    if backbone.config.model_type == "timm_wrapper":
        inner: Any = backbone.get_submodule("timm_model")
        if type(inner).__name__ not in _PLAIN_TIMM or getattr(inner, "rope", None) is not None:
            return None
        if any(
            getattr(block.attn, "rel_pos_bias", None) is not None for block in inner.blocks if hasattr(block, "attn")
        ):
            return None
        return int(inner.num_prefix_tokens)
    if backbone.config.model_type not in _PLAIN:
        return None
    # A square grid of patches beside a few extra tokens: 197 = 14² + 1.
    grid = int(tokens**0.5)
    return tokens - grid * grid


class TokenDropper:
    """Keeps a share of each image's patches: those with the largest numbers in `order` [B, patches]."""

    def __init__(self, keep: float, extra: int, patches: int) -> None:
        self.kept = max(1, round(keep * patches))
        self.extra, self.patches = extra, patches
        self.order: torch.Tensor | None = None
        self._places: dict[int, torch.Tensor] = {}

    def tell(self, order: torch.Tensor) -> None:
        """The numbers of the next batch. They are always put where those of the last batch of this size were: a
        captured forward pass looks for them there."""
        place = self._places.get(len(order))
        if place is None or place.device != order.device:
            self._places[len(order)] = place = torch.empty_like(order)
        self.order = place.copy_(order)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [B, extra + patches, D] → [B, extra + kept, D], the kept patches in their order."""
        if self.order is None:
            return hidden
        chosen = self.order.to(hidden.device).topk(self.kept, dim=1).indices.sort(dim=1).values + self.extra
        picked = hidden.gather(1, chosen[:, :, None].expand(-1, -1, hidden.shape[2]))
        return torch.cat([hidden[:, : self.extra], picked], dim=1)

    @contextmanager
    def before(self, block: nn.Module) -> Iterator[None]:
        """Inside, the block sees only the kept patches while it is in train mode and `order` is set."""

        def drop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not module.training or self.order is None:
                return None
            if args:
                return (self(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self(kwargs["hidden_states"])}

        handle = block.register_forward_pre_hook(drop, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
