"""Random erasing: one rectangle of an image filled with the mean.

Owns: drawing the rectangle and what a rectangle covers. Zhong et al. 2017, arXiv 1708.04896: area 2 to 33 % of the
image, aspect 0.3 to 3.3. The filling is the backbone's mean, which is zero once normalised, rather than the paper's
noise: the same on every device, and no random numbers per pixel.
"""

from __future__ import annotations

import numpy as np
import torch

TRIES = 10
ERASE_UNIFORMS = 1 + 2 * TRIES + 2
_AREA = (0.02, 0.33)
_ASPECT = (0.3, 1 / 0.3)


def draw_rectangles(uniforms: np.ndarray, probability: float, height: int, width: int) -> np.ndarray:
    """float64 [B, 4]: left, top, right, bottom in output pixels; all zero where nothing is erased.

    `uniforms`: [B, ERASE_UNIFORMS]. The first of ten drawn shapes that is smaller than the image is used, if any.
    """
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * uniforms[:, 1 : 1 + TRIES])
    low, high = np.log(_ASPECT[0]), np.log(_ASPECT[1])
    aspect = np.exp(low + (high - low) * uniforms[:, 1 + TRIES : 1 + 2 * TRIES])
    tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (tall < height) & (wide < width)
    first, picked = fits.argmax(axis=1), np.arange(len(uniforms))
    tall, wide = tall[picked, first], wide[picked, first]
    left = np.floor(uniforms[:, -2] * (width - wide + 1))
    top = np.floor(uniforms[:, -1] * (height - tall + 1))
    erased = (uniforms[:, 0] < probability) & fits.any(axis=1)
    return np.where(erased[:, None], np.stack([left, top, left + wide, top + tall], axis=1), 0.0)


def covered(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """bool [B, 1, height, width]: the pixels inside `boxes` [B, 4] (left, top, right, bottom)."""
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)[:, None]
    left, top, right, bottom = boxes.T[:, :, None, None, None]
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)
