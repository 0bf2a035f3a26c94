"""Forward passes without gradients over decoded rows: evaluation and prediction outside of training. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from hf_finetune.pixels import normalise_constants
from hf_finetune.training.trainer import forward_in_pieces
from hf_finetune.types import PixelRows, Preprocess


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


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    rows: PixelRows,
    preprocess: Preprocess,
    *,
    batch: int,
    indices: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Logits float32 [len(indices), C] (all rows where `indices` is None), in order, the model in eval mode.

    A lack of memory halves the batch and goes on.
    """
    model.eval()
    device = next(model.parameters()).device
    normalise = Normaliser(preprocess)
    chosen = np.arange(len(rows)) if indices is None else np.asarray(indices)
    found, piece = [], batch
    for start in range(0, len(chosen), batch):
        here = chosen[start : start + batch]
        pixels = torch.from_numpy(rows.gather(here)).to(device)
        labels = torch.from_numpy(rows.labels[here])
        logits, piece = forward_in_pieces(model, normalise, {"pixel_values": pixels, "labels": labels}, piece)
        found.append(logits.cpu().numpy())
        if progress is not None:
            progress(len(here))
    return np.concatenate(found)
