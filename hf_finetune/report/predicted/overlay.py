"""A map of what a model looked at, in colour over the image that it saw. numpy and Pillow alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

SMALLEST = 224  # pixels of the shorter edge: a digit of 28 × 28 is drawn eight times as large
# From nothing to most: what is not looked at stays as it is, in grey; then blue, red and yellow lie over it.
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_COLOURS = ((40, 50, 150), (60, 90, 220), (200, 60, 120), (250, 130, 30), (255, 235, 60))
_MOST_COVER = 0.65


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Image.Image:
    """RGB of an image uint8 [3, H, W] with a map float [H, W] from 0 to 1 over it: the plain image, and beside it the
    same in grey with the map."""
    plain = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    grey = (plain.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None].repeat(3, axis=2)
    level = np.clip(heat.astype(np.float32), 0, 1)
    colours = np.stack([np.interp(level, _LEVELS, channel) for channel in zip(*_COLOURS, strict=True)], axis=-1)
    cover = _MOST_COVER * np.sqrt(level)[..., None]
    heated = np.rint(grey * (1 - cover) + colours * cover).clip(0, 255).astype(np.uint8)
    both = np.concatenate([plain, heated], axis=1)
    times = -(-SMALLEST // min(heat.shape))
    return Image.fromarray(both.repeat(times, axis=0).repeat(times, axis=1))
