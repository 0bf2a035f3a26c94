"""Where an output pixel comes from: crop boxes and affine maps, per sample, in numpy.

Owns: the random resized crop, the evaluation crop, and the maps of flip, rotation, shear and shift. A *grid* is float64
[B, 2, 3]: it takes (x, y, 1) of the output to (x, y) of the stored image, both in [-1, 1] from edge to edge
(torch's `align_corners=False`). The store squashes the whole image to a square, so a box in original pixels divided by
the original size is already a box in the store: the squash is undone without looking at it again. Does not sample
pixels (sampling.py).
"""

from __future__ import annotations

import numpy as np

from hf_finetune.types import CenterCrop, Preprocess, Resize, ResizeShortest

TRIES = 10
CROP_UNIFORMS = 2 * TRIES + 2


def random_boxes(
    uniforms: np.ndarray, sizes: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    """Random resized crops, float64 [B, 4]: left, top, width, height in original pixels (whole numbers).

    `uniforms`: [B, CROP_UNIFORMS]; `sizes`: [B, 2], width and height. The distribution is that of torchvision's
    RandomResizedCrop (Szegedy et al. 2015, arXiv 1409.4842): area uniform in `scale`, log aspect uniform in `ratio`,
    ten tries, then the largest central box whose aspect is allowed.
    """
    width, height = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    area = width * height * (scale[0] + (scale[1] - scale[0]) * uniforms[:, :TRIES])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspect = np.exp(low + (high - low) * uniforms[:, TRIES : 2 * TRIES])
    wide, tall = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first, picked = fits.argmax(axis=1), np.arange(len(sizes))
    found = fits.any(axis=1)
    width, height = width[:, 0], height[:, 0]
    own = width / height
    fall_wide = np.where(own > ratio[1], np.rint(height * ratio[1]), width)
    fall_tall = np.where(own < ratio[0], np.rint(width / ratio[0]), height)
    box_wide = np.where(found, wide[picked, first], np.maximum(fall_wide, 1))
    box_tall = np.where(found, tall[picked, first], np.maximum(fall_tall, 1))
    room_x, room_y = width - box_wide, height - box_tall
    left = np.where(found, np.floor(uniforms[:, -2] * (room_x + 1)), np.floor(room_x / 2))
    top = np.where(found, np.floor(uniforms[:, -1] * (room_y + 1)), np.floor(room_y / 2))
    return np.stack([left, top, box_wide, box_tall], axis=1)


def evaluation_boxes(preprocess: Preprocess, sizes: np.ndarray) -> np.ndarray:
    """What the stock processor keeps of each image, float64 [B, 4]: left, top, width, height in original pixels.

    Where the processor's rule is not known in steps, it is the largest central box with the output's aspect. A box is
    larger than the image where the processor pads; sampling then mirrors the image instead.
    """
    size = sizes.astype(np.float64)
    if preprocess.steps is None:
        shape = np.array([preprocess.width, preprocess.height], dtype=np.float64)
        extent = shape * (size / shape).min(axis=1, keepdims=True)
        return np.concatenate([(size - extent) / 2, extent], axis=1)
    start, extent, pixels = np.zeros_like(size), size.copy(), size.copy()
    for step in preprocess.steps:
        if isinstance(step, Resize):
            pixels = np.broadcast_to(np.array([step.width, step.height], dtype=np.float64), size.shape)
        elif isinstance(step, ResizeShortest):
            short = pixels.min(axis=1, keepdims=True)
            pixels = np.maximum(np.floor(step.edge * pixels / short), 1)
        elif isinstance(step, CenterCrop):
            crop = np.array([step.width, step.height], dtype=np.float64)
            margin = (pixels - crop) / 2
            margin = np.rint(margin) if step.rounding == "half_even" else np.floor(margin)
            pitch = extent / pixels
            start, extent = start + margin * pitch, crop * pitch
            pixels = np.broadcast_to(crop, size.shape)
    return np.concatenate([start, extent], axis=1)


def crop_grid(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The grid that shows `boxes` [B, 4] (original pixels) of images of `sizes` [B, 2], float64 [B, 2, 3]."""
    size = sizes.astype(np.float64)
    share, middle = boxes[:, 2:] / size, (boxes[:, :2] + boxes[:, 2:] / 2) / size
    grid = np.zeros((len(boxes), 2, 3))
    grid[:, 0, 0], grid[:, 1, 1] = share[:, 0], share[:, 1]
    grid[:, :, 2] = 2 * middle - 1
    return grid


def linear_grid(xx: np.ndarray, xy: np.ndarray, yx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """A linear map about the centre from its four entries, each [B] in [-1, 1] units: float64 [B, 2, 3]."""
    grid = np.zeros((len(xx), 2, 3))
    grid[:, 0, 0], grid[:, 0, 1], grid[:, 1, 0], grid[:, 1, 1] = xx, xy, yx, yy
    return grid


def flip_grid(flipped: np.ndarray) -> np.ndarray:
    """Horizontal flip where `flipped` bool [B]."""
    one, zero = np.ones(len(flipped)), np.zeros(len(flipped))
    return linear_grid(np.where(flipped, -1.0, 1.0), zero, zero, one)


def rotation_grid(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture turned counter-clockwise by `degrees` [B] about its centre, round in output pixels."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    return linear_grid(cosine, -sine * height / width, sine * width / height, cosine)


def shear_grid(share_x: np.ndarray, share_y: np.ndarray, height: int, width: int) -> np.ndarray:
    """x sheared by `share_x` pixels per pixel of y, or y by `share_y`, [B] each, about the centre."""
    one = np.ones(len(share_x))
    return linear_grid(one, share_x * height / width, share_y * width / height, one)


def shift_grid(share_x: np.ndarray, share_y: np.ndarray) -> np.ndarray:
    """The picture moved right and down by these shares of its width and height, [B] each."""
    one, zero = np.ones(len(share_x)), np.zeros(len(share_x))
    grid = linear_grid(one, zero, zero, one)
    grid[:, 0, 2], grid[:, 1, 2] = -2 * share_x, -2 * share_y
    return grid


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The grid of a picture made by `first` and then changed by `then` (grids read from output back to source)."""
    linear = first[:, :, :2] @ then[:, :, :2]
    offset = first[:, :, :2] @ then[:, :, 2:] + first[:, :, 2:]
    return np.concatenate([linear, offset], axis=2)
