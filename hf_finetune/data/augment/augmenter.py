"""The augmenter: draws every random number of a batch on the CPU, then turns stored pixels into the backbone's input.

Owns: the order of steps (one resampling for all geometry, colour jitter, RandAugment's colour operations,
normalisation, erasing). Does not own the steps (geometry.py, sampling.py, color.py, randaugment.py, erase.py,
preprocess/normalise.py) nor the mixing of two images (mix.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from hf_finetune.data.augment import color, geometry
from hf_finetune.data.augment.draws import uniform
from hf_finetune.data.augment.erase import ERASE_UNIFORMS, covered, draw_rectangles
from hf_finetune.data.augment.randaugment import apply_operations, draw_operations
from hf_finetune.data.augment.sampling import sample_affine, sample_separable
from hf_finetune.data.augment.transform import Transform, transformed
from hf_finetune.data.config import Augment
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import Preprocess

# Uses of one row's random numbers; a number never changes its use, or every seeded run changes.
_CROP, _FLIP, _ROTATE, _COLOR, _OPERATIONS, _ERASE, _TRANSFORM = range(7)
_STREAMS = 8

# Images that a CPU takes at a time, so that each step finds them in the cache: 2,000 images/s against 800 for 64 at
# once (256 -> 224, crop and flip, one core of an AMD EPYC, 2026-11-23).
_CPU_CHUNK = 4

# Pillow's numbers of the resamplers with a cubic or wider kernel: LANCZOS and BICUBIC.
_CUBIC = (1, 3)


class Augmenter:
    """Turns stored training images into normalised ones. Light to pickle: it holds settings, no tensors.

    `side`: edge in pixels of the store's squares, into which the whole image was squashed. Crops are resampled with the
    checkpoint's own kernel, cubic or linear. `transform`, of the caller's, comes after all but erasing.
    """

    def __init__(self, config: Augment, preprocess: Preprocess, side: int, transform: Transform | None = None) -> None:
        self.config = config
        self._transform = transform
        self.preprocess = preprocess
        self.side = side
        self.height, self.width = preprocess.height, preprocess.width
        self._cubic = preprocess.resample in _CUBIC
        self._normalise = Normaliser(preprocess)
        # The grid may turn or shear, so that it is not separable.
        self._turns = config.rotate_degrees > 0 or config.randaugment > 0

    def draw(
        self, rows: np.ndarray, sizes: np.ndarray, epoch: int, seed: int, stream: int = 0
    ) -> dict[str, np.ndarray]:
        """The parameters of each row, float32 [B, …]; which keys there are depends on the settings alone.

        `rows`: int64 [B]; `sizes`: [B, 2], width and height of the originals. `stream` 0 is for the rows of the batch,
        1 for their partners. Keys: `grid` [B, 2, 3] (geometry.py); with `color`: `color` [B, 3] factors; with
        `randaugment`: `operations` and `parameters` [B, n]; with `erasing`: `erase` [B, 4] in output pixels; with a
        transform of the caller's: its seed, `transform` [B] in 0 … 1.
        """

        def numbers(use: int, count: int) -> np.ndarray:
            return uniform(seed, epoch, rows, stream * _STREAMS + use, count)

        config, height, width = self.config, self.height, self.width
        if config.crop_scale == (1.0, 1.0):
            boxes = geometry.evaluation_boxes(self.preprocess, sizes)
        else:
            uniforms = numbers(_CROP, geometry.CROP_UNIFORMS)
            boxes = geometry.random_boxes(uniforms, sizes, config.crop_scale, config.crop_ratio)
        grid = geometry.crop_grid(boxes, sizes)
        if config.flip > 0:
            grid = geometry.compose(grid, geometry.flip_grid(numbers(_FLIP, 1)[:, 0] < config.flip))
        if config.rotate_degrees > 0:
            degrees = (2 * numbers(_ROTATE, 1)[:, 0] - 1) * config.rotate_degrees
            grid = geometry.compose(grid, geometry.rotation_grid(degrees, height, width))
        draws: dict[str, np.ndarray] = {}
        if config.color > 0:
            draws["color"] = np.maximum(1 + (2 * numbers(_COLOR, 3) - 1) * config.color, 0)
        if config.randaugment > 0:
            uniforms = numbers(_OPERATIONS, 2 * config.randaugment).reshape(len(rows), config.randaugment, 2)
            operations, parameters, moved = draw_operations(uniforms, config.randaugment_magnitude, height, width)
            draws["operations"], draws["parameters"] = operations, parameters
            grid = geometry.compose(grid, moved)
        if self._transform is not None:
            draws["transform"] = numbers(_TRANSFORM, 1)[:, 0]
        if config.erasing > 0:
            draws["erase"] = draw_rectangles(numbers(_ERASE, ERASE_UNIFORMS), config.erasing, height, width)
        draws["grid"] = grid
        return {name: values.astype(np.float32) for name, values in draws.items()}

    @torch.no_grad()
    def apply(
        self, pixels: torch.Tensor, draws: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """uint8 [B, 3, side, side] and its draws -> normalised [B, 3, height, width] on the same device.

        Computed in float32, also under autocast, and rounded to `dtype` at the end.
        """
        chunk = _CPU_CHUNK if pixels.device.type == "cpu" else len(pixels)
        result = torch.empty(len(pixels), 3, self.height, self.width, device=pixels.device)
        with torch.autocast(pixels.device.type, enabled=False):
            for start in range(0, len(pixels), chunk):
                part = slice(start, start + chunk)
                self._apply(pixels[part], {name: values[part] for name, values in draws.items()}, result[part])
        return result.to(dtype)

    def _apply(self, pixels: torch.Tensor, draws: Mapping[str, torch.Tensor], result: torch.Tensor) -> None:
        images = self._sample(pixels, draws["grid"])
        if "color" in draws or "operations" in draws:
            images = images / 255
            if "color" in draws:
                images = color.jitter(images, draws["color"])
            if "operations" in draws:
                images = apply_operations(images, draws["operations"], draws["parameters"])
            images = images * 255
        if self._transform is not None:
            images = transformed(images, draws["transform"], self._transform)
        self._normalise.write(images, result)
        if "erase" in draws:
            result.masked_fill_(covered(draws["erase"], self.height, self.width), 0.0)

    def _sample(self, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, height, width] in 0 … 255; images that are not turned take the better, separable path."""
        if not self._turns:
            return sample_separable(pixels, grid, self.height, self.width, self._cubic)
        turned = ((grid[:, 0, 1] != 0) | (grid[:, 1, 0] != 0)).cpu().numpy()
        images = torch.empty(len(pixels), 3, self.height, self.width, device=pixels.device)
        for chosen, affine in ((np.flatnonzero(turned), True), (np.flatnonzero(~turned), False)):
            if len(chosen) == 0:
                continue
            where = torch.from_numpy(chosen).to(pixels.device)
            if affine:
                images[where] = sample_affine(pixels[where], grid[where], self.height, self.width)
            else:
                images[where] = sample_separable(pixels[where], grid[where], self.height, self.width, self._cubic)
        return images
