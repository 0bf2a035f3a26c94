"""RandAugment: which operations an image gets, and how strong.

Owns: the list of operations, their strengths, and applying the colour ones. The geometric ones become part of the
sample's grid (geometry.py), so that pixels are read once; they therefore act before the colour ones, in the order
drawn. Cubuk et al. 2019, arXiv 1909.13719; the strengths are those of torchvision's RandAugment (shear 0.3, shift 0.45
of the side, rotation 30°, enhancement ± 0.9, posterize down to 4 bits, solarize from above white down to black) on a
scale of 0 to 10.
"""

from __future__ import annotations

import numpy as np
import torch

from hf_finetune.data.augment import color
from hf_finetune.data.augment.geometry import compose, rotation_grid, shear_grid, shift_grid

COLOR_OPERATIONS: tuple[tuple[str, color.Operation | None], ...] = (
    ("identity", None),
    ("autocontrast", color.autocontrast),
    ("equalize", color.equalize),
    ("posterize", color.posterize),
    ("solarize", color.solarize),
    ("brightness", color.brightness),
    ("contrast", color.contrast),
    ("saturation", color.saturation),
    ("sharpness", color.sharpness),
)
GEOMETRIC_OPERATIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
NAMES = tuple(name for name, _ in COLOR_OPERATIONS) + GEOMETRIC_OPERATIONS


def draw_operations(
    uniforms: np.ndarray, magnitude: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From `uniforms` [B, n, 2]: colour operations int64 [B, n], their parameters [B, n], and a grid [B, 2, 3].

    A round that drew a geometric operation is `identity` among the colour operations. Operations are equally likely,
    and so are both signs.
    """
    batch, rounds = uniforms.shape[:2]
    drawn = np.floor(uniforms[..., 0] * len(NAMES)).astype(np.int64)
    sign = np.where(uniforms[..., 1] < 0.5, -1.0, 1.0)
    level = magnitude / 10
    parameter = 1 + sign * 0.9 * level
    parameter = np.where(drawn == NAMES.index("posterize"), 8 - np.rint(4 * level), parameter)
    parameter = np.where(drawn == NAMES.index("solarize"), (1 - level) * 256 / 255, parameter)
    grid = shift_grid(np.zeros(batch), np.zeros(batch))
    for number in range(rounds):
        share = {
            name: np.where(drawn[:, number] == NAMES.index(name), sign[:, number] * level, 0.0)
            for name in GEOMETRIC_OPERATIONS
        }
        grid = compose(grid, rotation_grid(30 * share["rotate"], height, width))
        grid = compose(grid, shear_grid(0.3 * share["shear_x"], 0.3 * share["shear_y"], height, width))
        grid = compose(grid, shift_grid(0.45 * share["translate_x"], 0.45 * share["translate_y"]))
    return np.where(drawn < len(COLOR_OPERATIONS), drawn, 0), parameter, grid


def apply_operations(images: torch.Tensor, operations: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """float32 [B, 3, H, W] in [0, 1] after each image's own operations, [B, n] each; changes `images` in place.

    Each operation runs on the images that drew it. Reading which ones those are costs one wait for the device.
    """
    drawn = operations.cpu().numpy().astype(np.int64)
    for number in range(drawn.shape[1]):
        for code, (_, operation) in enumerate(COLOR_OPERATIONS):
            chosen = np.flatnonzero(drawn[:, number] == code)
            if operation is None or len(chosen) == 0:
                continue
            where = torch.from_numpy(chosen).to(images.device)
            images[where] = operation(images[where], parameters[where, number])
    return images
