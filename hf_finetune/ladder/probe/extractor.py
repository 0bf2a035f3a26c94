"""The pass over the images, batch by batch: a frozen backbone as it starts, and what is watched in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.training.autocast import autocast
from hf_finetune.training.pieces import fitting


@dataclass(frozen=True)
class FeatureExtractor:
    """The pass itself: a model in eval mode, what to watch in it, and how to feed it."""

    model: nn.Module
    watch: Watch
    normalise: Normaliser
    batch: int
    autocast: torch.dtype | None

    def __call__(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        """uint8 [B, 3, H, W] → features float32 [B, d] on the CPU, and the watched state.

        In halves where memory lacks; raises torch's own error where one image does not fit.
        """
        found = fitting(partial(self._run, pixels), smallest=len(pixels) == 1)
        if found is not None:
            return found
        half = len(pixels) // 2
        (one, state), (other, rest) = self(pixels[:half]), self(pixels[half:])
        return torch.cat([one, other]), None if state is None or rest is None else torch.cat([state, rest])

    @torch.no_grad()
    def _run(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        device = next(self.model.parameters()).device
        inputs = self.normalise({"pixel_values": torch.from_numpy(pixels).to(device)})
        with self.watch, autocast(device.type, self.autocast):
            self.model(pixel_values=inputs)
        return self.watch.features.cpu(), self.watch.hidden
