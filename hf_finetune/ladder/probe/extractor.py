"""The pass over the images, batch by batch: a frozen backbone as it starts, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from hf_finetune.backbones.engines.engine import Engine
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.training.pieces import fitting


@dataclass(frozen=True)
class FeatureExtractor:
    """The pass itself: an engine that watches the head's input (and a block's), and how to feed it."""

    engine: Engine
    normalise: Normaliser
    batch: int

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

    def inputs(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [B, 3, H, W] as the engine takes them: normalised float32, on its device."""
        return self.normalise({"pixel_values": torch.from_numpy(pixels).to(self.engine.device)})

    def _run(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        outputs = self.engine(self.inputs(pixels))
        if outputs.features is None:
            raise ValueError("an engine without a watch gives no features")
        return outputs.features, outputs.hidden
