"""The `probe` rung: one forward pass, then a head in closed form, and logistic regression from there where it is cheap.

Owns fitting heads on what the pass kept (ridge.py, logistic.py), putting one into a model, and checking that the model
then says what the head says. The forward pass and its cache are hidden.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_finetune.adapters.trained import trained_module
from hf_finetune.errors import ModelError
from hf_finetune.ladder.hidden import Kept
from hf_finetune.ladder.logistic import MOST_WORK, Piece, refine
from hf_finetune.ladder.ridge import Choice, Moments, Solution, choose, solve
from hf_finetune.processes import gather
from hf_finetune.tasks.scoring import answers_of
from hf_finetune.training.ranks import sum_over_ranks, sum_tensors_over_ranks
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

    def answers(self, features: np.ndarray, labels: np.ndarray) -> Answers | None:
        """What it says of rows with features float32 [n, d] and labels int64 [n]; None where there are none."""
        step = max(1, MOST_LOGITS // len(self.bias))
        parts = [slice(start, start + step) for start in range(0, len(labels), step)]
        found = [answers_of(self.logits(features[part]), labels[part]) for part in parts]
        return Answers.joined(found) if found else None


def fit_heads(kept: Kept, labels: np.ndarray, classes: int, class_weights: Sequence[float] | None) -> Fitted:
    """Ridge on this process's features and everybody else's; penalty and temperature by exact leave-one-out.

    labels int64 [N] of the whole split; the result is the same on every process up to rounding.
    """
    own = torch.from_numpy(labels[kept.rows])
    weights = torch.ones(len(own)) if class_weights is None else torch.tensor(class_weights)[own]
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

    kept: Kept
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

    def pieces(self) -> Iterator[Piece]:
        """The rows, some thousands at a time."""
        return _pieces(self.kept, self.labels, self.weights)


def _pieces(kept: Kept, labels: Tensor, weights: Tensor, step: int = 1) -> Iterator[Piece]:
    """Copies in memory of the kept features, with their labels and weights; of every `step`-th row."""
    for start in range(0, len(labels), CHUNK_ROWS * step):
        part = slice(start, min(start + CHUNK_ROWS * step, len(labels)), step)
        yield torch.from_numpy(np.array(kept.features[part])), labels[part], weights[part]


@torch.no_grad()
def install(model: nn.Module, names: Sequence[str], head: Head) -> None:
    """Write the head into the trained copies of the model's head modules; several share the features side by side.

    A model with several heads averages them, so each gets its part times their number. Raises ModelError where a head
    is no linear layer with a bias.
    """
    start = 0
    for number, name in enumerate(names):
        module: Any = trained_module(model, name)
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or weight.ndim not in (2, 4):
            raise ModelError(f"the head {name} is no linear layer with a bias, but {type(module).__name__}")
        width = weight.shape[1]
        part = head.weight[:, start : start + width] * len(names)
        weight.copy_(part.reshape(weight.shape))
        bias.copy_(head.bias * len(names) if number == 0 else torch.zeros_like(head.bias))
        start += width
    if start != head.weight.shape[1]:
        raise ModelError(f"the head takes {start} features, but {head.weight.shape[1]} were seen")


@torch.no_grad()
def check_installed(model: nn.Module, inputs: Tensor, expected: np.ndarray, autocast: torch.dtype | None) -> None:
    """Raise ModelError unless the model's logits on normalised `inputs` are the expected ones."""
    mixed = nullcontext() if autocast is None else torch.autocast(inputs.device.type, autocast)
    with mixed:
        found = model.eval()(pixel_values=inputs).logits.float().cpu().numpy()
    # The features went through float32 products on both sides; what differs is their order.
    allowed = 2e-2 * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    if not difference <= allowed:
        raise ModelError(
            f"with the head in closed form the model's logits differ by {difference:.3g} from what the head says, "
            f"{allowed:.3g} allowed"
        )
