"""What a training step holds beside the weights, as numbers of which any micro-batch can be asked. Pure: no torch.

The numbers are counted by step_trace.py on a model without weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Bytes at one moment of a step: what does not grow with the batch, what an image adds, gradients that are there so far.
Moment = tuple[int, int, int]


@dataclass(frozen=True)
class StepBytes:
    """`moments`: all moments that can be the largest for some batch; `kept`: fixed and per image at the end of the
    forward pass; `saved`: fixed and per image that recomputing each block would spare, in the order of the blocks;
    `gradients`: bytes of all gradients at the step's end; `changes`: every storage's making and end in their order (its
    number, its fixed bytes and those of an image, negative at its end; empty where they are not known); `functions`:
    whether autograd functions written in Python keep tensors."""

    moments: tuple[Moment, ...]
    kept: tuple[int, int]
    saved: tuple[tuple[int, int], ...] = ()
    gradients: int = 0
    changes: tuple[tuple[int, int, int], ...] = ()
    functions: bool = False

    def peak(self, batch: int, *, accumulates: bool) -> int:
        """The most that is held at once for `batch` images; with `accumulates` the gradients are there from the start,
        else they come while activations go."""
        return max(
            fixed + image * batch + (self.gradients if accumulates else gradients)
            for fixed, image, gradients in self.moments
        )

    def kept_by(self, batch: int) -> int:
        """What autograd keeps for the backward pass at the end of the forward pass."""
        return self.kept[0] + self.kept[1] * batch


def recomputing(plain: StepBytes, every: StepBytes, blocks: int) -> StepBytes:
    """The step with the first `blocks` recomputed, from the step with none and the step with all of them.

    While later blocks run backward, what the first would keep is not there; while these are recomputed, one after the
    other, nothing of the later ones is left, as where all are recomputed.
    """
    if blocks <= 0:
        return plain
    if blocks >= len(plain.saved):
        return every
    fixed, image = (sum(each[part] for each in plain.saved[:blocks]) for part in (0, 1))
    moments = [(max(0, a - fixed), max(0, b - image), c) for a, b, c in plain.moments]
    kept = (max(0, plain.kept[0] - fixed), max(0, plain.kept[1] - image))
    return StepBytes(largest([*moments, *every.moments]), kept, plain.saved, plain.gradients)


def largest(moments: Iterable[Moment]) -> tuple[Moment, ...]:
    """Those that another moment does not exceed in every part."""
    front: list[Moment] = []
    for moment in sorted(set(moments), reverse=True):
        if not any(all(a >= b for a, b in zip(other, moment, strict=True)) for other in front):
            front.append(moment)
    return tuple(front)
