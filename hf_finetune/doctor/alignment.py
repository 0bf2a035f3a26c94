"""Lays one picture over another by an affine map, and says how alike they then are, edge by edge.

Gauss-Newton on the difference of normalised grey values (inverse of Lucas and Kanade 1981, as in Baker and Matthews
2004), from coarse to fine, for many pairs at once: what a copy that was cropped, stretched or moved needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

_FURTHEST_STEP = 0.1  # of a map's coefficients at once, half the picture being 1
_FLAT = 1e-3  # grey levels that stand for noise in a picture of one colour


@dataclass(frozen=True)
class Overlap:
    """Of N pairs: `map` float32 [N, 2, 3], which takes places of the first to places of the second (−1 to 1 across);
    `alike` [N], correlation of grey values where both are; `edges` [N], correlation of their gradients there; `shared`
    [N], which part of the first that is."""

    map: Tensor
    alike: Tensor
    edges: Tensor
    shared: Tensor

    @staticmethod
    def joined(parts: Sequence[Overlap]) -> Overlap:
        """One after another."""
        return Overlap(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Overlap)))

    @property
    def change(self) -> Tensor:
        """[N]: the largest coefficient by which the map is not the identity."""
        return (self.map - _identity(len(self.map))).abs().amax((1, 2))


def lay_over(first: Tensor, second: Tensor, start: Tensor | None, rounds: Sequence[tuple[int, int]]) -> Overlap:
    """`first`, `second` float32 [N, S, S]; `rounds`: (side, steps) of each resolution; `start`: the map to begin with.
    The overlap is measured at the last one."""
    found = _identity(len(first)) if start is None else start
    one, other = first, second
    for side, steps in rounds:
        one, other = (functional.adaptive_avg_pool2d(each[:, None], side)[:, 0] for each in (first, second))
        found = _refined(one, other, found, steps)
    moved, inside = _moved(other, found)
    count = inside.sum((1, 2)).clamp(min=1)
    alike = (_normal(one, inside) * _normal(moved, inside)).sum((1, 2)) / count
    ours, theirs = _gradients(one, inside), _gradients(moved, inside)
    edges = (ours * theirs).sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1) + _FLAT)
    return Overlap(found, alike, edges, inside.mean((1, 2)))


def _identity(count: int) -> Tensor:
    return torch.eye(2, 3).repeat(count, 1, 1)


def _places(side: int) -> Tensor:
    """float32 [3, side²]: x, y and 1 of the middle of each pixel."""
    middle = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x.ravel(), y.ravel(), torch.ones(side * side)])


def _moved(picture: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """The picture as it looks from the other's places, and which of those it has: float32 [N, S, S] each."""
    side = picture.shape[-1]
    grid = (by @ _places(side)).mT.reshape(len(picture), side, side, 2)
    moved = functional.grid_sample(picture[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return moved, (grid.abs().amax(-1) <= 1).float()


def _normal(picture: Tensor, inside: Tensor) -> Tensor:
    """Mean 0 and deviation 1 where it counts, 0 elsewhere."""
    count = inside.sum((1, 2), keepdim=True).clamp(min=1)
    centred = (picture - (picture * inside).sum((1, 2), keepdim=True) / count) * inside
    return centred / ((centred.square().sum((1, 2), keepdim=True) / count).sqrt() + _FLAT)


def _refined(first: Tensor, second: Tensor, found: Tensor, steps: int) -> Tensor:
    side = first.shape[-1]
    x, y, _ = _places(side).reshape(3, side, side)
    lowest = torch.zeros(len(first), 1, 3)
    lowest[:, :, 2] = 1
    for _ in range(steps):
        moved, inside = _moved(second, found)
        ours, theirs = _normal(first, inside), _normal(moved, inside)
        right, down = torch.zeros_like(theirs), torch.zeros_like(theirs)
        right[:, :, 1:-1] = (theirs[:, :, 2:] - theirs[:, :, :-2]) * side / 4
        down[:, 1:-1] = (theirs[:, 2:] - theirs[:, :-2]) * side / 4
        slopes = torch.stack([right * x, right * y, right, down * x, down * y, down], -1).flatten(1, 2)
        square = slopes.mT @ slopes
        damping = 1e-3 * square.diagonal(dim1=1, dim2=2).mean(1) + _FLAT
        square = square + damping[:, None, None] * torch.eye(6)
        step = torch.linalg.solve(square, slopes.mT @ (ours - theirs).flatten(1)[:, :, None])
        step = step.reshape(-1, 2, 3).clamp(-_FURTHEST_STEP, _FURTHEST_STEP) + _identity(len(first))
        found = found @ torch.cat([step, lowest], 1)
    return found


def _gradients(picture: Tensor, inside: Tensor) -> Tensor:
    """[N, 2 · (S − 2)²]."""
    right = picture[:, 1:-1, 2:] - picture[:, 1:-1, :-2]
    down = picture[:, 2:, 1:-1] - picture[:, :-2, 1:-1]
    return (torch.stack([right, down], 1) * inside[:, None, 1:-1, 1:-1]).flatten(1)
