"""A linear head in closed form: ridge regression from streamed moments, with exact predictions of rows left out.

Owns the algebra only; where features come from is feature_cache.py's, what the head is put into is rung.py's. Targets
are class ids or any float matrix, so that regression and several labels at once are the same solve.

Model: y ≈ ȳ + B (x − μ)/σ, minimising (1/W) Σ wᵢ‖yᵢ − …‖² + λ‖B‖² with W = Σ wᵢ and the intercept unpenalised. With the
eigenvectors V and eigenvalues Λ of the features' correlation matrix, every λ costs one diagonal scaling. Leaving row i
out changes its prediction to (ŷᵢ − hᵢyᵢ)/(1 − hᵢ), hᵢ = (wᵢ/W)(1 + Σₖ zᵢₖ²/(Λₖ + λ)), z = Vᵀ(x − μ)/σ (the PRESS
identity, Allen 1974); μ and σ are those of all rows. Leaving out the rows of a group G at once (all pictures of a
patient) is the same with a matrix: their residuals become (I − H)⁻¹(y − ŷ), Hᵢⱼ = (wⱼ/W)(1 + Σₖ zᵢₖzⱼₖ/(Λₖ + λ)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hf_finetune.ladder.probe.links import Link

# From no shrinkage worth the name to almost all of it, half a decade apart; relative to a correlation matrix.
LAMBDAS = tuple(10 ** (exponent / 2) for exponent in range(-10, 5))
# Standard deviations below this share of the largest are constant features: they carry nothing and are left out.
_CONSTANT = 1e-6
# Leverages above this leave nothing to predict the row from.
_MAX_LEVERAGE = 1 - 1e-6
# The same of a group that is all there is: the share of its matrix that is taken keeps the system solvable.
_MOST_OF_GROUP = 1 - 1e-10


class Piece(NamedTuple):
    """Rows: features float32 [n, d], what their targets are encoded as [n, …] and weights [n]. Groups of `size` rows,
    one after another, are left out together."""

    x: Tensor
    y: Tensor
    weights: Tensor
    size: int = 1


class Moments:
    """Weighted first and second moments of features and targets, added up in float64, never the rows themselves."""

    def __init__(self, features: int, outputs: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        self.weight, self.x, self.y = zeros(), zeros(features), zeros(outputs)
        self.xx, self.xy = zeros(features, features), zeros(features, outputs)

    def add(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """x float [n, features]; y int64 [n] class ids or float [n, outputs]; weights float [n]."""
        x, weights = x.double(), weights.double()
        weighted = x * weights[:, None]
        self.weight += weights.sum()
        self.x += weighted.sum(0)
        self.xx += weighted.T @ x
        if y.ndim == 1:  # one-hot rows: sums by class, without the matrix of zeros
            self.y.index_add_(0, y, weights)
            self.xy.index_add_(1, y, weighted.T.contiguous())
        else:
            self.y += weights @ y.double()
            self.xy += weighted.T @ y.double()

    def tensors(self) -> list[Tensor]:
        """The sums, to be added over processes in place."""
        return [self.weight, self.x, self.y, self.xx, self.xy]


@dataclass(frozen=True)
class Solution:
    """Every ridge solution of one set of moments, as its parts; see the module."""

    mean: Tensor  # [d]
    inverse_std: Tensor  # [d], 0 for constant features
    bias: Tensor  # [C]
    vectors: Tensor  # [d, d]
    values: Tensor  # [d]
    projected: Tensor  # [d, C]: Vᵀ · correlation of features and targets
    weight: Tensor  # W

    def project(self, x: Tensor) -> Tensor:
        """z float64 [n, d] of features [n, d]."""
        return ((x.double() - self.mean) * self.inverse_std) @ self.vectors

    def predict(self, z: Tensor, penalty: float) -> Tensor:
        """ŷ float64 [n, C] of projected rows."""
        return self.bias + (z / (self.values + penalty)) @ self.projected

    def leave_out(self, z: Tensor, y: Tensor, weights: Tensor, penalty: float, size: int = 1) -> Tensor:
        """What each of these rows would have been predicted as without its group: float64 [n, C].

        y int64 [n] or float [n, C], weights [n]: of the rows that went into the moments; groups of `size` rows, one
        after another.
        """
        if size > 1:
            return self._leave_groups_out(z, y, weights, penalty, size)
        leverage = weights.double() / self.weight * (1 + (z.square() / (self.values + penalty)).sum(1))
        leverage = leverage.clamp(max=_MAX_LEVERAGE)[:, None]
        fitted = self.predict(z, penalty)
        if y.ndim == 1:
            fitted[torch.arange(len(y)), y] -= leverage[:, 0]
            return fitted / (1 - leverage)
        return (fitted - leverage * y.double()) / (1 - leverage)

    def _leave_groups_out(self, z: Tensor, y: Tensor, weights: Tensor, penalty: float, size: int) -> Tensor:
        fitted = self.predict(z, penalty)
        targets = functional.one_hot(y, fitted.shape[1]) if y.ndim == 1 else y
        targets = targets.double()
        grouped = z.view(-1, size, z.shape[1])
        shared = 1 + (grouped / (self.values + penalty)) @ grouped.mT  # [groups, size, size]
        hat = shared * (weights.double() / self.weight).view(-1, 1, size)
        remaining = torch.eye(size, dtype=z.dtype) - _MOST_OF_GROUP * hat
        residuals = torch.linalg.solve(remaining, (targets - fitted).view(-1, size, fitted.shape[1]))
        return targets - residuals.reshape(fitted.shape)

    def standard(self, penalty: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """weight float64 [C, d] and bias [C] on standardised features, outputs times `scale`."""
        weight = self.vectors @ (self.projected / (self.values + penalty)[:, None])  # [d, C]
        return (weight.T * scale).contiguous(), self.bias * scale

    def unstandardised(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same head as float32 [C, d] and [C] on raw features."""
        raw = weight * self.inverse_std
        return raw.float(), (bias - raw @ self.mean).float()

    def standardised(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A head on raw features as float64 [C, d] and [C] on standardised ones: the way back."""
        raw = weight.double()
        std = torch.where(self.inverse_std > 0, 1 / self.inverse_std, torch.zeros_like(self.inverse_std))
        return raw * std, bias.double() + raw @ self.mean

    def folded(self, penalty: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """weight float32 [C, d] and bias [C] on raw features, standardisation folded in, outputs times `scale`."""
        return self.unstandardised(*self.standard(penalty, scale))


def solve(moments: Moments) -> Solution:
    """Decompose once; every penalty is then cheap."""
    total = moments.weight
    mean, bias = moments.x / total, moments.y / total
    covariance = moments.xx / total - torch.outer(mean, mean)
    std = covariance.diagonal().clamp(min=0).sqrt()
    inverse_std = torch.where(std > _CONSTANT * std.max(), 1 / std, torch.zeros_like(std))
    correlation = covariance * torch.outer(inverse_std, inverse_std)
    cross = (moments.xy / total - torch.outer(mean, bias)) * inverse_std[:, None]
    values, vectors = torch.linalg.eigh(correlation)
    return Solution(mean, inverse_std, bias, vectors, values.clamp(min=0), vectors.T @ cross, total)


@dataclass(frozen=True)
class Choice:
    """The penalty and the scale of the outputs whose predictions of rows left out lose least, with loss and figure."""

    penalty: float
    scale: float
    loss: float  # a row's
    figure: float  # what `link.figure` names


# Rows × outputs whose predictions are held at once, as float64 (32 MB).
_HELD = 2**22


def choose(
    solution: Solution,
    chunks: Sequence[Piece],
    link: Link,
    *,
    total: Callable[[Tensor], Tensor] = lambda value: value,
    penalties: Sequence[float] = LAMBDAS,
) -> Choice:
    """Penalty and temperature by the link's loss of exact predictions of rows left out.

    `chunks`: of rows that went into the moments (all of them, or a part where they would be too many). `total` adds a
    tensor over processes.
    """
    coarse = _losses(solution, chunks, link, penalties, link.scales, total)
    at_penalty, at_scale = divmod(int(coarse[0].argmin()), len(link.scales))
    penalty, scale = penalties[at_penalty], link.scales[at_scale]
    fine = [scale * 2 ** (step / 16) for step in range(-8, 9)] if len(link.scales) > 1 else [scale]
    losses, figures = _losses(solution, chunks, link, [penalty], fine, total)
    best = int(losses.argmin())
    return Choice(penalty, fine[best], float(losses[0, best]), float(figures[0]))


def _losses(
    solution: Solution,
    chunks: Sequence[Piece],
    link: Link,
    penalties: Sequence[float],
    scales: Sequence[float],
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Mean loss [penalties, scales] of rows left out, and the figure of those that count [penalties]."""
    losses = torch.zeros(len(penalties), len(scales), dtype=torch.float64)
    figures = torch.zeros(len(penalties), dtype=torch.float64)
    counts = torch.zeros(2, dtype=torch.float64)  # weights and rows
    most = _HELD // len(solution.bias)
    for x, y, weights, size in (part for chunk in chunks for part in _parts(chunk, most)):
        z, counted = solution.project(x), (weights > 0).double()
        counts += torch.stack([weights.double().sum(), counted.sum()])
        for row, penalty in enumerate(penalties):
            outputs = solution.leave_out(z, link.targets(y), weights, penalty, size)
            figures[row] += counted @ link.figures(outputs, y)
            losses[row] += weights.double() @ link.losses(outputs, y, scales)
    losses, figures, counts = total(losses), total(figures), total(counts)
    return losses / counts[0], figures / counts[1]


def _parts(piece: Piece, rows: int) -> Iterator[Piece]:
    """Parts of about so many rows, with whole groups."""
    step = max(1, rows // piece.size) * piece.size
    for start in range(0, len(piece.y), step):
        part = slice(start, start + step)
        yield Piece(piece.x[part], piece.y[part], piece.weights[part], piece.size)
