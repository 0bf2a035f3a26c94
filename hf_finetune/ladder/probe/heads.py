"""Linear heads fitted on what the pass kept: in closed form, and by logistic regression from there where it is cheap.

Owns going over the kept features in pieces (ridge.py and logistic.py do the mathematics); putting a head into a model
is rung.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hf_finetune.errors import ModelError
from hf_finetune.labels import Answers
from hf_finetune.ladder.probe.every_row import deal
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.left_together import Run, side_by_side
from hf_finetune.ladder.probe.links import LINKS, Identity, Link
from hf_finetune.ladder.probe.logistic import MOST_WORK, Kept, refine
from hf_finetune.ladder.probe.ridge import LAMBDAS, Choice, Moments, Piece, Solution, choose, solve
from hf_finetune.machine.processes import gather, gather_answers
from hf_finetune.machine.ranks import sum_over_ranks, sum_tensors_over_ranks
from hf_finetune.plan.forecast import HEAD_NUMBERS, HEAD_ROWS
from hf_finetune.tasks import Part, Target

CHUNK_ROWS = HEAD_ROWS
# Rows × classes whose left-out predictions choose penalty and temperature; a part of the rows beyond that.
MOST_CHOSEN_ON = 20_000_000
# Multiplications of leaving groups out, of which each costs its square times its rows and features, with every penalty;
# a part of the groups beyond that (seconds on two cores).
MOST_LEFT_OUT = 200_000_000_000
MOST_LOGITS = HEAD_NUMBERS  # held at once: 16 MB


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
        step = min(CHUNK_ROWS, max(1, MOST_LOGITS // len(self.bias)))
        parts = [slice(start, start + step) for start in range(0, len(labels), step)]
        found = [target.answers(self.logits(features[part]), labels[part]) for part in parts]
        return Answers.joined(found) if found else None


@dataclass(frozen=True)
class LeftOut:
    """What a head says of rows that it was not fitted on, each left out in turn, and their labels; `rows` int64 [n]:
    which of the split's they are, ascending. `of` names the split."""

    answers: Answers
    labels: np.ndarray
    rows: np.ndarray
    of: str = "training"


def fit_heads(
    kept: SplitFeatures,
    labels: np.ndarray,
    target: Target,
    counts: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> Fitted:
    """Ridge on this process's features and everybody else's; penalty and temperature by exact predictions of rows left
    out, of each part of the outputs by itself.

    labels [N, …] of the whole split; the result is the same on every process up to rounding. `counts` float [N]: what
    each row weighs beside the others (None: alike), on top of the target's own weights; one of 0 counts for nothing,
    neither for the standardisation nor for the choice of the penalty. `units` int64 [N]: rows of one number are left
    out together, −1 is alone (None: all are).
    """
    kept, runs = side_by_side(kept, units)
    own = torch.from_numpy(labels[kept.rows])
    share = torch.ones(len(own)) if counts is None else torch.from_numpy(counts[kept.rows]).float()
    width = max(gather(kept.features.shape[1]))
    every = _every(len(labels), target, runs, width)
    rows = Rows(kept, runs, every, width)
    parts = tuple(_fit_part(rows, own, share, part, len(labels)) for part in target.parts)
    return Fitted(rows, parts, labels, target)


@dataclass(frozen=True)
class Rows:
    """This process's features, of `width`, in runs of units that are left out together; of every `every`-th unit that
    is done."""

    kept: SplitFeatures
    runs: tuple[Run, ...]
    every: int
    width: int

    def pieces(self, targets: Tensor, weights: Tensor) -> Iterator[Piece]:
        """All of them, with their targets and weights, some thousands at a time."""
        return self._pieces(targets, weights, CHUNK_ROWS, 1)

    def some(self, targets: Tensor, weights: Tensor, at_once: int = CHUNK_ROWS) -> Iterator[Piece]:
        """Those that are left out, about `at_once` at a time."""
        return self._pieces(targets, weights, at_once, self.every)

    @property
    def left_out(self) -> np.ndarray:
        """int64 [n]: which rows of the split `some` gives, in its order."""
        parts = [self.kept.rows[part] for run in self.runs for part in run.parts(CHUNK_ROWS, self.every)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _pieces(self, targets: Tensor, weights: Tensor, at_once: int, step: int) -> Iterator[Piece]:
        for run in self.runs:
            for part in run.parts(at_once, step):
                features = self.kept.features[part]
                if not (features.flags.writeable and features.flags.c_contiguous):  # a view of a file, or of records
                    features = np.array(features)
                yield Piece(torch.from_numpy(features), targets[part], weights[part], run.size)


def _fit_part(rows: Rows, labels: Tensor, share: Tensor, part: Part, count: int) -> FittedPart:
    """The part's own solution: its rows are those in which its target is known. `share` float32 [n] multiplies their
    weights; `count`: rows of the split."""
    link, (y, weights) = LINKS[part.link], part.encode(labels)
    weights = weights * share
    solution = _solve(rows, y, weights, link, part.outputs)
    choice = choose(solution, list(rows.some(y, weights)), link, total=sum_over_ranks)
    offsets = torch.tensor(part.offsets or (0.0,), dtype=torch.float32)
    return FittedPart(rows, y, weights, link, solution, choice, count, offsets)


def _solve(rows: Rows, y: Tensor, weights: Tensor, link: Link, outputs: int) -> Solution:
    moments = Moments(rows.width, outputs)
    for x, targets, counted, _ in rows.pieces(y, weights):
        moments.add(x, link.targets(targets), counted)
    sum_tensors_over_ranks(moments.tensors())
    if not bool(torch.isfinite(moments.xx).all()):
        raise ModelError("its features are not finite numbers in this precision; train.precision=fp32 may help")
    return solve(moments)


def _every(count: int, target: Target, runs: Sequence[Run], width: int) -> int:
    """Every n-th unit is left out, so that all classes are in it."""
    outputs = max(part.outputs for part in target.parts)
    work = sum((run.stop - run.start) * run.size * (width + run.size) for run in runs if run.size > 1) * len(LAMBDAS)
    return max(1, -(-count * outputs // MOST_CHOSEN_ON), -(-max(gather(work)) // MOST_LEFT_OUT))


@dataclass(frozen=True)
class FittedPart:
    """The solution on this process's rows, with what their targets are encoded as and weights [n]; `count`: rows of the
    split; `offsets` [C] or [1]: the part's.

    Biases are not penalised, so that the best head of a loss with offsets is the best without them, less the offsets.
    """

    rows: Rows
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
        if self.work > MOST_WORK or isinstance(self.link, Identity):
            return None
        found = refine(self.solution, self.choice, self.pieces, self.link, kept)
        return None if found is None else Head(found[0], found[1] - self.offsets)

    @property
    def work(self) -> int:
        """Multiplications of going over all rows once."""
        return self.count * self.solution.projected.numel()

    def without(self, held: np.ndarray) -> FittedPart:
        """The same part fitted without this process's rows that are `held` bool [n], penalty and scale as they are."""
        weights = self.weights * torch.from_numpy(~held)
        solution = _solve(self.rows, self.targets, weights, self.link, len(self.solution.bias))
        return replace(self, weights=weights, solution=solution)

    def left_out(self, at_once: int) -> Iterator[Tensor]:
        """Logits float32 [n, C] of the rows that are left out, each of the head fitted without its unit."""
        for x, y, weights, size in self.rows.some(self.targets, self.weights, at_once):
            # Ids go as they are: the solution takes them for rows of 0 and 1.
            wanted = y if y.ndim == 1 else self.link.targets(y)
            found = self.solution.leave_out(self.solution.project(x), wanted, weights, self.choice.penalty, size)
            yield (found * self.choice.scale).float() - self.offsets

    def pieces(self) -> Iterator[Piece]:
        """The rows, some thousands at a time."""
        return self.rows.pieces(self.targets, self.weights)


@dataclass(frozen=True)
class Fitted:
    """Every part of the outputs, in their order."""

    rows: Rows
    parts: tuple[FittedPart, ...]
    labels: np.ndarray  # of the whole split
    target: Target

    def of_every_row(self) -> Fitted:
        """The same, of which every row is left out, and not a part of them where rows × outputs are many."""
        rows = replace(self.rows, every=1)
        return replace(self, rows=rows, parts=tuple(replace(part, rows=rows) for part in self.parts))

    def closed_form(self) -> Head:
        """The ridge solutions."""
        return _side_by_side([part.closed_form() for part in self.parts])

    def left_out(self) -> LeftOut:
        """What the ridge solutions say of the training rows, or of a part of them where rows × outputs are many; the
        same on every process."""
        outputs = sum(len(part.solution.bias) for part in self.parts)
        at_once = min(CHUNK_ROWS, max(1, MOST_LOGITS // outputs))  # a piece is in float64, several times over
        pieces = zip(*(part.left_out(at_once) for part in self.parts), strict=True)
        own, start, found = self.rows.left_out, 0, []
        for logits in (torch.cat(piece, 1).numpy() for piece in pieces):
            found.append(self.target.answers(logits, self.labels[own[start : start + len(logits)]]))
            start += len(logits)
        answers = gather_answers(own, Answers.joined(found) if found else None)
        rows = np.sort(np.concatenate(gather(own)))
        return LeftOut(answers, self.labels[rows], rows)

    def logistic(self) -> Head | None:
        """Logistic regression of the parts that it is for; None where that is none."""
        found = [part.logistic() for part in self.parts]
        if all(each is None for each in found):
            return None
        return _side_by_side([each or part.closed_form() for each, part in zip(found, self.parts, strict=True)])

    def cross_fitted(self, units: np.ndarray) -> LeftOut | None:
        """What logistic regression says of every row, fitted on the rows of other folds, of which no unit int64 [N] is
        torn; None as above."""
        kept, found, places = self.rows.kept, [], []
        sums = [
            self.rows.kept.features[start : start + CHUNK_ROWS].sum(1) for start in range(0, len(kept.rows), CHUNK_ROWS)
        ]
        own, everybodys = np.concatenate([np.zeros(0), *sums]), np.zeros(len(self.labels))
        for where, theirs in gather((kept.rows, own)):
            everybodys[where] = theirs
        fold_of = deal(units, self.labels, everybodys)
        for fold in range(int(fold_of.max()) + 1):
            held = fold_of[kept.rows] == fold
            head = replace(self, parts=tuple(part.without(held) for part in self.parts)).logistic()
            if head is None:
                return None
            where = np.flatnonzero(held)
            answers = head.answers(kept.features[where], self.labels[kept.rows[where]], self.target)
            if answers is not None:
                found.append(answers)
                places.append(kept.rows[where])
        own = np.concatenate(places) if places else np.zeros(0, np.int64)
        answers = gather_answers(own, Answers.joined(found) if found else None)
        return LeftOut(answers, self.labels, np.arange(len(self.labels)))

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
    def work(self) -> int:
        """Multiplications of going over all rows once, of every part."""
        return sum(part.work for part in self.parts)

    @property
    def note(self) -> str:
        """What was chosen, and how good it is on rows that were left out."""
        left_out = "leave-one-out" if all(run.size == 1 for run in self.rows.runs) else "leave-group-out"
        said = (
            f"λ {part.choice.penalty:g}, {left_out} {part.link.figure} {part.choice.figure:.3f}" for part in self.parts
        )
        return "; ".join(said)


def _side_by_side(heads: Sequence[Head]) -> Head:
    return Head(torch.cat([each.weight for each in heads]), torch.cat([each.bias for each in heads]))
