"""The torch model itself, call by call: the engine that the others are compared with."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from hf_finetune.backbones.engines.engine import Outputs
from hf_finetune.backbones.surgery.cut import Watch


class Eager:
    """A torch classifier in eval mode. `watch` says what to keep beside the logits, `autocast` what to compute in."""

    name = "the torch model"
    identity = ""

    def __init__(self, model: nn.Module, watch: Watch | None = None, autocast: torch.dtype | None = None) -> None:
        self.model, self.watch, self.autocast = model.eval(), watch, autocast
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Outputs:
        """float32 [B, 3, H, W] on the model's device. Raises ModelError where the head takes no vector an image."""
        computed_in = nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)
        with self.watch or nullcontext(), computed_in:
            logits = self.model(pixel_values=inputs).logits
        if self.watch is None:
            return Outputs(logits.float().cpu())
        return Outputs(logits.float().cpu(), self.watch.features.cpu(), self.watch.hidden)
