"""Linear heads fitted on what the pass kept: in closed form, and by logistic regression from there where it is cheap.

Owns going over the kept features in pieces (ridge.py and logistic.py do the mathematics); putting a head into a model
is rung.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_finetune.errors import ModelError
from hf_finetune.labels import Answers
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.links import LINKS, Identity, Link
from hf_finetune.ladder.probe.logistic import MOST_WORK, Kept, Piece, refine
from hf_finetune.ladder.probe.ridge import Choice, Moments, Solution, choose, solve
from hf_finetune.machine.processes import gather, gather_answers
from hf_finetune.machine.ranks import sum_over_ranks, sum_tensors_over_ranks
from hf_finetune.tasks import Part, Target

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


@dataclass(frozen=True)
class LeftOut:
    """What a head says of rows that it was not fitted on, each left out in turn, and their labels."""

    answers: Answers
    labels: np.ndarray


def fit_heads(kept: SplitFeatures, labels: np.ndarray, target: Target, counts: np.ndarray | None = None) -> Fitted:
    """Ridge on this process's features and everybody else's; penalty and temperature by exact leave-one-out, of each
    part of the outputs by itself.

    labels [N, …] of the whole split; the result is the same on every process up to rounding. `counts` float [N]: what
    each row weighs beside the others (None: alike), on top of the target's own weights; one of 0 counts for nothing,
    neither for the standardisation nor for the choice of the penalty.
    """
    own = torch.from_numpy(labels[kept.rows])
    share = torch.ones(len(own)) if counts is None else torch.from_numpy(counts[kept.rows]).float()
    return Fitted(kept, tuple(_fit_part(kept, own, share, part, len(labels)) for part in target.parts), labels, target)


def _fit_part(kept: SplitFeatures, labels: Tensor, share: Tensor, part: Part, count: int) -> FittedPart:
    """The part's own solution: its rows are those in which its target is known. `share` float32 [n] multiplies their
    weights; `count`: rows of the split."""
    link, (y, weights) = LINKS[part.link], part.encode(labels)
    weights = weights * share
    width = max(gather(kept.features.shape[1]))
    moments = Moments(width, part.outputs)
    for x, targets, counted in _pieces(kept, y, weights):
        moments.add(x, link.targets(targets), counted)
    sum_tensors_over_ranks(moments.tensors())
    if not bool(torch.isfinite(moments.xx).all()):
        raise ModelError("its features are not finite numbers in this precision; train.precision=fp32 may help")
    solution = solve(moments)
    every = _every(count, part.outputs)
    choice = choose(solution, list(_pieces(kept, y, weights, every)), link, total=sum_over_ranks)
    offsets = torch.tensor(part.offsets or (0.0,), dtype=torch.float32)
    return FittedPart(kept, y, weights, link, solution, choice, count, offsets)


def _every(count: int, outputs: int) -> int:
    """Leave-one-out goes over every n-th row, so that all classes are in it."""
    return max(1, -(-count * outputs // MOST_CHOSEN_ON))


@dataclass(frozen=True)
class FittedPart:
    """The solution on this process's rows `kept`, with what their targets are encoded as and weights [n]; `count`: rows
    of the split; `offsets` [C] or [1]: the part's.

    Biases are not penalised, so that the best head of a loss with offsets is the best without them, less the offsets.
    """

    kept: SplitFeatures
    targets: Tensor
    weights: Tensor
    link: Link
    solution: Solution
    choice: Choice
    count: int
    offsets: Tensor

    def closed_form(self) -> Head:
        """The ridge solution, its outputs scaled to be logits."""
        weight, bias = self.solution.folded(self.choice.penalty, self.choice.scale)
        return Head(weight, bias - self.offsets)

    def logistic(self, kept: Kept | None = None) -> Head | None:
        """Logistic regression from there on, beside the outputs that are kept (without the offsets); None where it
        would take long, or nothing is left to do."""
        if self.count * self.solution.projected.numel() > MOST_WORK or isinstance(self.link, Identity):
            return None
        found = refine(self.solution, self.choice, self.pieces, self.link, kept)
        return None if found is None else Head(found[0], found[1] - self.offsets)

    def left_out(self, start: int, stop: int, every: int) -> Tensor:
        """Logits float32 [n, C] of every n-th row from `start` to `stop`, each of the head fitted without it."""
        part = slice(start, stop, every)
        z = self.solution.project(torch.from_numpy(np.array(self.kept.features[part])))
        y = self.targets[part]
        # Ids go as they are: the solution takes them for rows of 0 and 1.
        wanted = y if y.ndim == 1 else self.link.targets(y)
        found = self.solution.leave_one_out(z, wanted, self.weights[part], self.choice.penalty)
        return (found * self.choice.scale).float() - self.offsets

    def pieces(self) -> Iterator[Piece]:
        """The rows, some thousands at a time."""
        return _pieces(self.kept, self.targets, self.weights)


@dataclass(frozen=True)
class Fitted:
    """Every part of the outputs, in their order."""

    kept: SplitFeatures
    parts: tuple[FittedPart, ...]
    labels: np.ndarray  # of the whole split
    target: Target

    def closed_form(self) -> Head:
        """The ridge solutions."""
        return _side_by_side([part.closed_form() for part in self.parts])

    def left_out(self) -> LeftOut:
        """What the ridge solutions say of the training rows, or of a part of them where rows × outputs are many; the
        same on every process."""
        outputs = sum(len(part.solution.bias) for part in self.parts)
        every = _every(len(self.labels), outputs)
        size = every * max(1, MOST_LOGITS // outputs)
        found: list[Answers] = []
        for start in range(0, len(self.kept.rows), size):
            stop = min(start + size, len(self.kept.rows))
            logits = torch.cat([part.left_out(start, stop, every) for part in self.parts], 1).numpy()
            found.append(self.target.answers(logits, self.labels[self.kept.rows[start:stop:every]]))
        own = np.asarray(self.kept.rows)[::every]
        answers = gather_answers(own, Answers.joined(found) if found else None)
        return LeftOut(answers, self.labels[np.sort(np.concatenate(gather(own)))])

    def logistic(self) -> Head | None:
        """Logistic regression of the parts that it is for; None where that is none."""
        found = [part.logistic() for part in self.parts]
        if all(each is None for each in found):
            return None
        return _side_by_side([each or part.closed_form() for each, part in zip(found, self.parts, strict=True)])

    def completed(self, kept: Kept) -> Head | None:
        """The outputs that are kept, and for the others logistic regression beside them; None as above. Of one part."""
        (part,) = self.parts
        found = part.logistic(kept)
        if found is not None:
            # To the last digit, also for features that happen to be constant in these rows.
            bias = kept.bias - part.offsets
            found.weight[kept.which], found.bias[kept.which] = kept.weight[kept.which], bias[kept.which]
        return found

    @property
    def note(self) -> str:
        """What was chosen, and how good it is on rows that were left out."""
        said = (
            f"λ {part.choice.penalty:g}, leave-one-out {part.link.figure} {part.choice.figure:.3f}"
            for part in self.parts
        )
        return "; ".join(said)


def _side_by_side(heads: Sequence[Head]) -> Head:
    return Head(torch.cat([each.weight for each in heads]), torch.cat([each.bias for each in heads]))


def _pieces(kept: SplitFeatures, targets: Tensor, weights: Tensor, step: int = 1) -> Iterator[Piece]:
    """Copies in memory of the kept features, with their targets and weights; of every `step`-th row."""
    for start in range(0, len(targets), CHUNK_ROWS * step):
        part = slice(start, min(start + CHUNK_ROWS * step, len(targets)), step)
        yield torch.from_numpy(np.array(kept.features[part])), targets[part], weights[part]
