"""A linear head in closed form: ridge regression from streamed moments, with exact leave-one-out predictions.

Owns the algebra only; where features come from is feature_cache.py's, what the head is put into is rung.py's. Targets
are class ids or any float matrix, so that regression and several labels at once are the same solve.

Model: y ≈ ȳ + B (x − μ)/σ, minimising (1/W) Σ wᵢ‖yᵢ − …‖² + λ‖B‖² with W = Σ wᵢ and the intercept unpenalised. With the
eigenvectors V and eigenvalues Λ of the features' correlation matrix, every λ costs one diagonal scaling. Leaving row i
out changes its prediction to (ŷᵢ − hᵢyᵢ)/(1 − hᵢ), hᵢ = (wᵢ/W)(1 + Σₖ zᵢₖ²/(Λₖ + λ)), z = Vᵀ(x − μ)/σ (the PRESS
identity, Allen 1974); μ and σ are those of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# From no shrinkage worth the name to almost all of it, half a decade apart; relative to a correlation matrix.
LAMBDAS = tuple(10 ** (exponent / 2) for exponent in range(-10, 5))
# Standard deviations below this share of the largest are constant features: they carry nothing and are left out.
_CONSTANT = 1e-6
# Leverages above this leave nothing to predict the row from.
_MAX_LEVERAGE = 1 - 1e-6


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

    def leave_one_out(self, z: Tensor, y: Tensor, weights: Tensor, penalty: float) -> Tensor:
        """What each of these rows would have been predicted as without it: float64 [n, C].

        y int64 [n] or float [n, C], weights [n]: of the rows that went into the moments.
        """
        leverage = weights.double() / self.weight * (1 + (z.square() / (self.values + penalty)).sum(1))
        leverage = leverage.clamp(max=_MAX_LEVERAGE)[:, None]
        fitted = self.predict(z, penalty)
        if y.ndim == 1:
            fitted[torch.arange(len(y)), y] -= leverage[:, 0]
            return fitted / (1 - leverage)
        return (fitted - leverage * y.double()) / (1 - leverage)

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
    """The penalty and the scale of the outputs that leave-one-out cross-entropy prefers, and its values there."""

    penalty: float
    scale: float
    loss: float  # nats a row
    accuracy: float


# Ridge outputs are near 0 and 1; cross-entropy wants them this many times larger: 1/16 to 256, half an octave apart.
# Each is exactly twice the last but one, on which `_cross_entropies` builds.
SCALES = tuple(base * 2.0**octave for octave in range(-4, 9) for base in (1.0, 2**0.5))[:-1]
# Rows × classes whose predictions are held at once, as float64 (32 MB), and that are exponentiated at once: these fit
# into a core's cache.
_HELD = 2**22
_AT_ONCE = 2**17


def choose(
    solution: Solution,
    chunks: Sequence[tuple[Tensor, Tensor, Tensor]],
    *,
    total: Callable[[Tensor], Tensor] = lambda value: value,
    penalties: Sequence[float] = LAMBDAS,
) -> Choice:
    """Penalty and temperature by exact leave-one-out cross-entropy.

    `chunks`: (x [n, d], class ids [n], weights [n]) of rows that went into the moments (all of them, or a part where
    rows × classes would be too many). `total` adds a tensor over processes.
    """
    coarse = _losses(solution, chunks, penalties, SCALES, total)
    at_penalty, at_scale = divmod(int(coarse[0].argmin()), len(SCALES))
    penalty, scale = penalties[at_penalty], SCALES[at_scale]
    fine = [scale * 2 ** (step / 16) for step in range(-8, 9)]
    losses, right, rows = _losses(solution, chunks, [penalty], fine, total)
    best = int(losses.argmin())
    return Choice(penalty, fine[best], float(losses[0, best]), float(right[0] / rows))


def _losses(
    solution: Solution,
    chunks: Sequence[tuple[Tensor, Tensor, Tensor]],
    penalties: Sequence[float],
    scales: Sequence[float],
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, float]:
    """Mean leave-one-out cross-entropy [penalties, scales], right answers [penalties], and the number of rows."""
    losses = torch.zeros(len(penalties), len(scales), dtype=torch.float64)
    right = torch.zeros(len(penalties), dtype=torch.float64)
    counts = torch.zeros(2, dtype=torch.float64)  # weights and rows
    step = max(1, _HELD // len(solution.bias))
    parts = ((x[i : i + step], y[i : i + step], w[i : i + step]) for x, y, w in chunks for i in range(0, len(y), step))
    for x, y, weights in parts:
        z = solution.project(x)
        counts += torch.stack([weights.double().sum(), torch.tensor(float(len(y)), dtype=torch.float64)])
        for row, penalty in enumerate(penalties):
            outputs = solution.leave_one_out(z, y, weights, penalty)
            right[row] += (outputs.argmax(1) == y).sum()
            losses[row] += weights.double() @ _cross_entropies(outputs, y, scales)
    losses, right, counts = total(losses), total(right), total(counts)
    return losses / counts[0], right, float(counts[1])


def _cross_entropies(outputs: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
    """Cross-entropy float64 [n, scales] of outputs float64 [n, C] times each scale; the outputs are used up.

    Where a scale is twice an earlier one, the exponentials are the earlier one's squares: one product each instead of
    an exponential, which takes most of the solve where classes are many. Sums are rounded to float32 before the
    logarithm: a loss that training in float32 would see as 0 is 0 here, else rows that are all told apart would want
    the largest scale there is, and leave the next rung no gradient.
    """
    outputs -= outputs.amax(1, keepdim=True)  # the largest is then 1 in every sum, which cannot overflow
    losses = torch.empty(len(y), len(scales), dtype=torch.float64)
    step = max(1, _AT_ONCE // outputs.shape[1])
    for start in range(0, len(y), step):
        gaps, labels = outputs[start : start + step], y[start : start + step, None]
        of_label = gaps.gather(1, labels)[:, 0]
        powers: dict[float, Tensor] = {}
        for column, scale in enumerate(scales):
            half = powers.pop(scale / 2, None)
            powers[scale] = half.square_() if half is not None else (gaps * scale).exp_()
            losses[start : start + step, column] = powers[scale].sum(1).float().log() - scale * of_label
    return losses
