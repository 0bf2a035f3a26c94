"""Reads pixels of the stored square through a grid: one resampling for crop, flip, rotation and shear together.

Owns: the separable path (no rotation or shear: antialiased, two passes) and the affine path. Both mirror the image
beyond its edges. What a grid is: geometry.py. Values are those of the input (0 … 255), float32.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

# Beyond this many stored pixels per output pixel plain bilinear reading shows aliasing, so the affine path reads a
# finer picture and averages. assumption: 1.5 is where neighbours begin to be skipped visibly.
_ALIASING = 1.5


def _kernel(distance: torch.Tensor, cubic: bool) -> torch.Tensor:
    """Triangle, or Keys' cubic convolution with a = -0.5 (1981; the one Pillow's BICUBIC uses)."""
    distance = distance.abs()
    if not cubic:
        return (1 - distance).clamp(min=0)
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def taps(
    scale: torch.Tensor, offset: torch.Tensor, source: int, output: int, cubic: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which `source` pixels each of `output` pixels reads along one axis, and with which weights.

    `scale`, `offset`: float32 [B], the grid's row. Returns int64 and float32 [B, output, K]; weights sum to 1. The
    kernel widens with minification as Pillow's does, so that nothing aliases. K holds the widest case, the whole
    source shown in the output; a source shown smaller than that is read with the width that K allows.
    """
    support = 2.0 if cubic else 1.0
    count = math.ceil(2 * support * max(1.0, source / output))
    place = (torch.arange(output, device=scale.device, dtype=torch.float32) * 2 + 1) / output - 1
    center = ((scale[:, None] * place + offset[:, None] + 1) * source - 1) / 2
    stretch = (scale.abs() * (source / output)).clamp(1.0, max(1.0, count / (2 * support)))[:, None]
    first = torch.floor(center - support * stretch) + 1
    position = first[:, :, None] + torch.arange(count, device=scale.device, dtype=torch.float32)
    weight = _kernel((position - center[:, :, None]) / stretch[:, :, None], cubic)
    weight = weight / weight.sum(dim=2, keepdim=True)
    index = torch.remainder(position.long(), 2 * source)
    return torch.where(index >= source, 2 * source - 1 - index, index), weight


def gather_rows(values: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted sums of rows: float32 [B, C, S, L] with taps [B, O, K] -> [B, C, O, L], by gathering K rows for each.

    `embedding_bag` is torch's fused weighted row gather.
    """
    batch, channels, source, length = values.shape
    output, count = index.shape[1:]
    base = torch.arange(batch * channels, device=values.device).view(batch, channels, 1, 1) * source
    bags = (index[:, None] + base).view(-1, count)
    share = weight[:, None].expand(batch, channels, output, count).reshape(-1, count)
    table = values.reshape(-1, length)
    result = functional.embedding_bag(bags, table, per_sample_weights=share, mode="sum")
    return result.view(batch, channels, output, length)


def multiply_rows(values: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What `gather_rows` gives, as a batched product with the taps as a dense matrix."""
    matrix = torch.zeros(*index.shape[:2], values.shape[2], device=values.device)
    return matrix.scatter_add_(2, index, weight)[:, None] @ values


def sample_separable(pixels: torch.Tensor, grid: torch.Tensor, height: int, width: int, cubic: bool) -> torch.Tensor:
    """uint8 [B, 3, S, S] through `grid` float32 [B, 2, 3] without cross terms -> float32 [B, 3, height, width].

    Rows first, then columns. A CPU gathers, other devices multiply: dense products do about S / K times the arithmetic.
    Measured 2026-11-23 on one quiet core of an AMD EPYC, 256 -> 224, images/s: gathering 2,100 in fours and 800 in
    64s, products 250, bilinear grid_sample (not antialiased) 1,000.
    """
    source = pixels.shape[-1]
    columns = taps(grid[:, 0, 0], grid[:, 0, 2], source, width, cubic)
    rows = taps(grid[:, 1, 1], grid[:, 1, 2], source, height, cubic)
    combine = gather_rows if pixels.device.type == "cpu" else multiply_rows
    tall = combine(pixels.float(), *rows)
    result = combine(tall.transpose(2, 3), *columns).transpose(2, 3)
    # The cubic kernel overshoots; sums of linear weights do by rounding.
    return result.clamp_(0, 255)


def sample_affine(pixels: torch.Tensor, grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 [B, 3, S, S] through any `grid` float32 [B, 2, 3], bilinear -> float32 [B, 3, height, width].

    Where the stored image has more than 1.5 pixels per output pixel, every output pixel averages n × n readings.
    """
    source = pixels.shape[-1]
    density = source / min(height, width)
    fine = math.ceil(density) if density > _ALIASING else 1
    x = (torch.arange(width * fine, device=grid.device, dtype=torch.float32) * 2 + 1) / (width * fine) - 1
    y = (torch.arange(height * fine, device=grid.device, dtype=torch.float32) * 2 + 1) / (height * fine) - 1
    entries = grid[:, :, :, None, None]
    places = entries[:, :, 0] * x[None, None, None, :] + entries[:, :, 1] * y[None, None, :, None] + entries[:, :, 2]
    # Mirrored here, since not every device mirrors in grid_sample; half a pixel inside, nothing beyond is ever read.
    places = torch.remainder(places + 1, 4)
    places = torch.where(places > 2, 4 - places, places) - 1
    places = places.clamp(-1 + 1 / source, 1 - 1 / source).permute(0, 2, 3, 1)
    result = functional.grid_sample(pixels.float(), places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (functional.avg_pool2d(result, fine) if fine > 1 else result).clamp_(0, 255)
