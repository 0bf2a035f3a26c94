"""Rows held in memory, photos drawn with numpy, and preprocessing rules: what the augmentation tests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from hf_finetune.types import CenterCrop, Preprocess, Resize, ResizeShortest

BILINEAR, BICUBIC = 2, 3


class ArrayRows:
    """PixelRows over an array."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = labels.astype(np.int64)
        self.sizes = sizes.astype(np.int32)
        self.names = [f"row {number}" for number in range(len(pixels))]

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


def make_preprocess(
    side: int = 56, edge: int | None = 62, resample: int = BICUBIC, bgr: bool = False, width: int | None = None
) -> Preprocess:
    """Shortest edge and centre crop, or a squash where `edge` is None."""
    width = width or side
    steps = (
        (Resize(side, width, resample),)
        if edge is None
        else (ResizeShortest(edge, resample), CenterCrop(side, width, "half_even"))
    )
    return Preprocess(
        steps=steps,
        height=side,
        width=width,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        scale=1 / 255,
        offset=0.0,
        bgr=bgr,
        resample=resample,
        source="test",
    )


def plain_preprocess(side: int = 56) -> Preprocess:
    """Normalisation to [0, 1], so that what comes out can be read as a picture."""
    return Preprocess(
        (Resize(side, side, BICUBIC),), side, side, (0.0,) * 3, (1.0,) * 3, 1 / 255, 0.0, False, BICUBIC, "test"
    )


def smooth_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A colourful picture without fine detail: a few waves per channel."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    waves = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(3):
            across, down = generator.uniform(-3, 3, 2)
            waves[..., channel] += np.sin(2 * np.pi * (across * x + down * y) + generator.uniform(0, 6))
    return Image.fromarray(np.uint8(np.clip(127.5 + 40 * waves, 0, 255)))


def squash(photos: Sequence[Image.Image], side: int) -> ArrayRows:
    """What the store keeps of photos: whole, squashed to squares."""
    pixels = [np.asarray(photo.resize((side, side), BICUBIC)).transpose(2, 0, 1) for photo in photos]
    sizes = np.array([photo.size for photo in photos])
    return ArrayRows(np.stack(pixels), np.arange(len(photos)) % 3, sizes)


def random_rows(count: int = 24, side: int = 64, seed: int = 0) -> ArrayRows:
    generator = np.random.default_rng(seed)
    photos = [smooth_photo(*generator.integers(40, 200, 2), seed=number) for number in range(count)]
    return squash(photos, side)


def assert_alike(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """The same normalised pictures, but for last bits that another batch or number of threads may round otherwise.

    Where a step has a threshold (a level, a histogram), such a bit may move single pixels of an image by a level or
    more; other random numbers would move nearly all of them.
    """
    assert found.shape == wanted.shape
    apart = (found - wanted).abs() > 1e-4
    assert apart.flatten(1).float().mean(1).max() < 0.05


def to_tensors(draws: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in draws.items()}


def to_pixels(photo: Image.Image) -> torch.Tensor:
    """float32 [3, H, W] in 0 … 255."""
    return torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).astype(np.float32))
