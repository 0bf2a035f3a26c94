"""Colour operations on float32 [B, 3, H, W] in [0, 1], each with one parameter per image.

Owns: the pixel arithmetic of jitter and of RandAugment's colour operations. Every result is again in [0, 1]. Formulas
are Pillow's ImageEnhance and ImageOps (torchvision uses the same), without rounding to 8 bits between operations; the
three that are defined on 256 levels (equalize, posterize, autocontrast's bounds) say so. Images are independent: no
result depends on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

# ITU-R BT.601 luma, with torchvision's digits.
_LUMA = (0.2989, 0.587, 0.114)


def _factor(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def _gray(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def _blend(images: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """`factor` 1 keeps the image, 0 gives `other`, above 1 moves away from `other`."""
    factor = _factor(factor)
    return (images * factor + other * (1 - factor)).clamp(0, 1)


def brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards black at 0; `factor` [B]."""
    return (images * _factor(factor)).clamp(0, 1)


def contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards the image's mean grey at 0; `factor` [B]."""
    # Rows first: one long sum would be split over threads differently for one image than for many.
    return _blend(images, _gray(images).mean(dim=3, keepdim=True).mean(dim=2, keepdim=True), factor)


def saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards grey at 0; `factor` [B]."""
    return _blend(images, _gray(images), factor)


def sharpness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards a 3 × 3 smoothing (centre 5, others 1, over 13; Pillow's SMOOTH) at 0; the border stays. `factor` [B]."""
    if min(images.shape[2:]) < 3:
        return images
    smooth = images.clone()
    inner = images[:, :, 1:-1, 1:-1]
    smooth[:, :, 1:-1, 1:-1] = (functional.avg_pool2d(images, 3, stride=1) * 9 + inner * 4) / 13
    return _blend(images, smooth, factor)


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Inverts what is at or above `threshold` [B], in [0, 1]."""
    return torch.where(images >= _factor(threshold), 1 - images, images)


def _levels(images: torch.Tensor) -> torch.Tensor:
    return torch.round(images * 255)


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Keeps the highest `bits` [B] (1 to 8) of 8."""
    step = torch.exp2(8 - _factor(bits))
    return torch.floor(_levels(images) / step) * step / 255


def autocontrast(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Stretches each channel of each image to [0, 1]; a channel of one value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    # Half a grey level: a channel flatter than that is flat in the photo, and its rounding noise is not stretched.
    flat = high - low < 0.5 / 255
    stretched = (images - low) / torch.where(flat, torch.ones_like(low), high - low)
    return torch.where(flat, images, stretched.clamp(0, 1))


def equalize(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Histogram equalisation per channel over 256 levels, with Pillow's integer rule (ImageOps.equalize)."""
    levels = _levels(images).long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.float32, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=torch.float32))
    highest = levels.amax(dim=2, keepdim=True)
    step = torch.floor((levels.shape[2] - counts.gather(2, highest)) / 255)
    before = counts.cumsum(dim=2) - counts
    table = torch.floor((before + torch.floor(step / 2)) / step.clamp(min=1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, dtype=torch.float32, device=images.device))
    return (table.gather(2, levels) / 255).view_as(images)


def jitter(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation, in this order, by `factors` float32 [B, 3]."""
    return saturation(contrast(brightness(images, factors[:, 0]), factors[:, 1]), factors[:, 2])


Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
