"""Pixels on their way into the backbone. Imports torch."""

from __future__ import annotations

import numpy as np
import torch

from hf_finetune.preprocess.pixels import normalise_constants
from hf_finetune.types import Preprocess


class Normaliser:
    """uint8 [B, 3, H, W] → float32 [B, 3, H, W] as the backbone expects, on the pixels' device."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._multiply, self._add = (
            torch.as_tensor(np.asarray(values, dtype=np.float32)).view(1, -1, 1, 1)
            for values in normalise_constants(preprocess)
        )
        self._bgr = preprocess.bgr

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        pixels = batch["pixel_values"]
        if self._bgr:
            pixels = pixels.flip(1)
        return pixels.float() * self._multiply.to(pixels.device) + self._add.to(pixels.device)
