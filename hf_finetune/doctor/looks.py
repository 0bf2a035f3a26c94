"""What is kept of every image's pixels, from one reading of the store: a small grey picture, and how plain it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.nn import functional

from hf_finetune.types import PixelRows

SIDE = 24  # of the grey picture
_BATCH = 64
_GRID = 112  # points a side that are looked at, and a half of them for colours
_LEVELS = 16  # of a channel, as colours are counted


@dataclass(frozen=True)
class Looks:
    """Of N images: `grey` uint8 [N, 24, 24]; `entropy` float32 [N], bits of the distribution of their colours (4 bits a
    channel), 0 for one colour alone; `colour` float32 [N], how far the channels are apart on the mean, in 8-bit
    levels."""

    grey: np.ndarray
    entropy: np.ndarray
    colour: np.ndarray

    @staticmethod
    def joined(parts: list[Looks]) -> Looks:
        """One after another."""
        if len(parts) == 1:
            return parts[0]
        return Looks(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Looks)))


def look_at(rows: PixelRows) -> Looks:
    """Some hundred bytes of each image; a few images are held at once."""
    count = len(rows)
    grey = np.zeros((count, SIDE, SIDE), np.uint8)
    entropy, colour = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for start in range(0, count, _BATCH):
        part = slice(start, min(start + _BATCH, count))
        pixels = rows.gather(np.arange(part.start, part.stop))
        step = [max(1, edge // _GRID) for edge in pixels.shape[2:]]
        some = np.ascontiguousarray(pixels[:, :, :: step[0], :: step[1]])
        grey[part] = small_grey(some, SIDE).round().to(torch.uint8).numpy()
        some = some[:, :, ::2, ::2].reshape(len(pixels), 3, -1)
        entropy[part] = _entropy(some)
        spread = some.max(axis=1).astype(np.int16) - some.min(axis=1)
        colour[part] = spread.mean(axis=1)
    return Looks(grey, entropy, colour)


def small_grey(pixels: np.ndarray, side: int) -> torch.Tensor:
    """uint8 [N, 3, H, W] → float32 [N, side, side]: the mean of the channels, averaged over areas."""
    mean = torch.from_numpy(pixels).float().mean(1, keepdim=True)
    return functional.adaptive_avg_pool2d(mean, side)[:, 0]


def _entropy(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, 3, P] → bits [N]."""
    levels = (pixels // (256 // _LEVELS)).astype(np.int64)
    code = (levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]
    colours = _LEVELS**3
    counts = np.bincount((code + colours * np.arange(len(code))[:, None]).ravel(), minlength=colours * len(code))
    share = counts.reshape(len(code), colours) / code.shape[1]
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(1)
