"""Logistic regression (of classes, or of labels each by itself) on the pass's features, begun at the closed form.

Ridge's squared loss is only a stand-in for cross-entropy; following it down usually gains a point where each class has
many images, and can lose some where it has few, so that validation chooses (climb.py). Nothing is searched: the penalty
is the one under which the scale that leave-one-out chose for ridge's outputs would not change,
λ = −⟨∇L(W), W⟩ / ‖W‖² with the mean cross-entropy L of the training rows, in standardised features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from hf_finetune.ladder.probe.links import Link
from hf_finetune.ladder.probe.ridge import Choice, Piece, Solution
from hf_finetune.machine import processes
from hf_finetune.machine.ranks import sum_tensors_over_ranks

# Rows × features × classes, of all processes. 10,000 × 300 × 100 took .6 s and 100,000 × 192 × 15 took 11.7 s (two busy
# cores, 2026-11-26), where the pass over the images takes minutes; beyond it nothing was measured.
MOST_WORK = 300_000_000
EVALUATIONS = 60  # of loss and gradient; what is gained later is nothing a validation split could show
HISTORY = 10
# Largest entry of the gradient, and change of loss or weights, at which the descent ends.
TOLERANCES = (1e-5, 1e-7)

Rows = Callable[[], Iterator[Piece]]


@dataclass(frozen=True)
class Descent:
    """Loss and gradient over `rows()`, this process's, in pieces."""

    solution: Solution
    rows: Rows
    link: Link

    def loss(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted mean loss of everybody's rows, and its gradients by weight [C, d] and bias [C].

        Both are of standardised features; the rows stay as they are, since standardising them each time took longer.
        """
        raw = weight * self.solution.inverse_std
        offset = bias - raw @ self.solution.mean
        sums = [torch.zeros((), dtype=torch.float64), torch.zeros_like(weight), torch.zeros_like(bias)]
        for x, y, weights, _ in self.rows():
            share, x = weights.double() / self.solution.weight, x.double()
            found = self.link.slopes(torch.addmm(offset, x, raw.T), y)
            if found is None:
                raise ValueError("a link whose loss ridge regression minimises is not descended by")
            losses, surplus = found
            sums[0] += share @ losses
            surplus *= share[:, None]
            sums[1] += surplus.T @ x
            sums[2] += surplus.sum(0)
        sum_tensors_over_ranks(sums)
        of_weight = (sums[1] - torch.outer(sums[2], self.solution.mean)) * self.solution.inverse_std
        return sums[0], of_weight, sums[2]


@dataclass(frozen=True)
class Kept:
    """Outputs that stay as they are: weight float [C, d] and bias [C] on raw features, `which` bool [C]."""

    weight: Tensor
    bias: Tensor
    which: Tensor


@torch.no_grad()
def refine(
    solution: Solution, choice: Choice, rows: Rows, link: Link, kept: Kept | None = None
) -> tuple[Tensor, Tensor] | None:
    """weight float32 [C, d] and bias [C] on raw features, the same on every process; those `kept` do not move.

    None where the closed form leaves no penalty to go by. Rank 0 goes down and the others are asked for their sums at
    each point: were each to search on its own, rounding could make one stop where another asks for more.
    """
    descent = Descent(solution, rows, link)
    if not processes.is_first():
        nothing = cast("tuple[Tensor, Tensor] | None", None)
        while (point := processes.agree(nothing)) is not None:
            descent.loss(*point)
        return processes.agree(nothing)

    def loss(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return descent.loss(*processes.agree((weight, bias)))

    weight, bias = solution.standard(choice.penalty, choice.scale)
    penalty = stationary_penalty(weight, loss(weight, bias)[1])
    moves = torch.ones(len(bias), 1, dtype=weight.dtype)
    if kept is not None:
        moves[kept.which] = 0
        there = solution.standardised(kept.weight, kept.bias)
        weight[kept.which], bias[kept.which] = (part[kept.which] for part in there)
    found = _go_down(loss, weight, bias, penalty, moves)
    processes.agree(None)
    return processes.agree(solution.unstandardised(*found) if found is not None else None)


def stationary_penalty(weight: Tensor, of_weight: Tensor) -> float:
    """The penalty under which stretching `weight` gains nothing, where the loss has this gradient."""
    return float(-(of_weight * weight).sum() / weight.square().sum())


def _go_down(
    loss: Callable[..., tuple[Tensor, Tensor, Tensor]], weight: Tensor, bias: Tensor, penalty: float, moves: Tensor
) -> tuple[Tensor, Tensor] | None:
    """The minimum of loss and penalty near (weight, bias), which are moved there where `moves` [C, 1] is 1 and not 0;
    None without a penalty."""
    if not 0 < penalty < float("inf"):
        return None
    optimizer = torch.optim.LBFGS(
        [weight.requires_grad_(), bias.requires_grad_()],
        max_iter=EVALUATIONS,
        max_eval=EVALUATIONS,
        tolerance_grad=TOLERANCES[0],
        tolerance_change=TOLERANCES[1],
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        value, of_weight, of_bias = loss(weight.detach(), bias.detach())
        moved = moves * weight.detach()
        weight.grad, bias.grad = moves * of_weight + penalty * moved, moves[:, 0] * of_bias
        return value + penalty / 2 * moved.square().sum()

    optimizer.step(closure)  # pyright: ignore[reportArgumentType] - torch calls it with gradients on, and wants a tensor
    return weight.detach(), bias.detach()
