"""Linear heads fitted on what the pass kept: in closed form, and by logistic regression from there where it is cheap.

Owns going over the kept features in pieces (ridge.py and logistic.py do the mathematics); putting a head into a model
is rung.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_finetune.errors import ModelError
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.logistic import MOST_WORK, Kept, Piece, refine
from hf_finetune.ladder.probe.ridge import Choice, Moments, Solution, choose, solve
from hf_finetune.machine.processes import gather
from hf_finetune.machine.ranks import sum_over_ranks, sum_tensors_over_ranks
from hf_finetune.tasks import Target
from hf_finetune.types import Answers

CHUNK_ROWS = 4096
# Rows × classes whose leave-one-out predictions choose penalty and temperature; a part of the rows beyond that.
MOST_CHOSEN_ON = 20_000_000
MOST_LOGITS = 4_000_000  # held at once: 16 MB


@dataclass(frozen=True)
class Head:
    """A linear head on the backbone's features: weight float32 [C, d], bias [C]."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float32 [n, d] → float32 [n, C]."""
        return (torch.from_numpy(np.array(features)) @ self.weight.T + self.bias).numpy()

    def answers(self, features: np.ndarray, labels: np.ndarray, target: Target) -> Answers | None:
        """What it says of rows with features float32 [n, d] and labels [n, …]; None where there are none."""
        step = max(1, MOST_LOGITS // len(self.bias))
        parts = [slice(start, start + step) for start in range(0, len(labels), step)]
        found = [target.answers(self.logits(features[part]), labels[part]) for part in parts]
        return Answers.joined(found) if found else None


def fit_heads(kept: SplitFeatures, labels: np.ndarray, target: Target) -> Fitted:
    """Ridge on this process's features and everybody else's; penalty and temperature by exact leave-one-out.

    labels int64 [N] of the whole split; the result is the same on every process up to rounding.
    """
    own, classes = torch.from_numpy(labels[kept.rows]), len(target.outputs.names)
    weights = target.row_weights(own)
    width = max(gather(kept.features.shape[1]))
    moments = Moments(width, classes)
    for piece in _pieces(kept, own, weights):
        moments.add(*piece)
    sum_tensors_over_ranks(moments.tensors())
    if not bool(torch.isfinite(moments.xx).all()):
        raise ModelError("its features are not finite numbers in this precision; train.precision=fp32 may help")
    solution = solve(moments)
    # Every n-th row, so that all classes are in it.
    step = max(1, -(-len(labels) * classes // MOST_CHOSEN_ON))
    choice = choose(solution, list(_pieces(kept, own, weights, step)), total=sum_over_ranks)
    return Fitted(kept, own, weights, solution, choice, len(labels))


@dataclass(frozen=True)
class Fitted:
    """The solution on this process's rows `kept` with their class ids and weights [n]; `count`: rows of the split."""

    kept: SplitFeatures
    labels: Tensor
    weights: Tensor
    solution: Solution
    choice: Choice
    count: int

    def closed_form(self) -> Head:
        """The ridge solution, its outputs scaled to be logits."""
        return Head(*self.solution.folded(self.choice.penalty, self.choice.scale))

    def logistic(self) -> Head | None:
        """Logistic regression from there on; None where it would take long, or nothing is left to do."""
        if self.count * self.solution.projected.numel() > MOST_WORK:
            return None

        found = refine(self.solution, self.choice, self.pieces)
        return None if found is None else Head(*found)

    def completed(self, kept: Kept) -> Head | None:
        """The outputs that are kept, and for the others logistic regression beside them; None as above."""
        if self.count * self.solution.projected.numel() > MOST_WORK:
            return None
        found = refine(self.solution, self.choice, self.pieces, kept)
        if found is None:
            return None
        weight, bias = found
        # To the last digit, also for features that happen to be constant in these rows.
        weight[kept.which], bias[kept.which] = kept.weight[kept.which], kept.bias[kept.which]
        return Head(weight, bias)

    def pieces(self) -> Iterator[Piece]:
        """The rows, some thousands at a time."""
        return _pieces(self.kept, self.labels, self.weights)


def _pieces(kept: SplitFeatures, labels: Tensor, weights: Tensor, step: int = 1) -> Iterator[Piece]:
    """Copies in memory of the kept features, with their labels and weights; of every `step`-th row."""
    for start in range(0, len(labels), CHUNK_ROWS * step):
        part = slice(start, min(start + CHUNK_ROWS * step, len(labels)), step)
        yield torch.from_numpy(np.array(kept.features[part])), labels[part], weights[part]
