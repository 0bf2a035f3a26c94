"""How a linear head's outputs become answers, and what is lost by them: of one class, of labels each by itself, of
numbers. A `Target` names the link of each part of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

# Ridge outputs are near 0 and 1 (or −1 and 1); cross-entropy wants them this many times larger: 1/16 to 256, half an
# octave apart. Each is exactly twice the last but one, on which `Softmax.losses` builds.
SCALES = tuple(base * 2.0**octave for octave in range(-4, 9) for base in (1.0, 2**0.5))[:-1]
# Rows × classes that are exponentiated at once: these fit into a core's cache.
_AT_ONCE = 2**17


class Link(Protocol):
    """`y` is what `Target.encoded` gives of a part: int64 [n] or float [n, C]."""

    figure: str  # what `figures` adds up to, as a mean
    scales: Sequence[float]  # of the outputs, that are tried

    def targets(self, y: Tensor) -> Tensor:
        """What ridge regression is fitted to."""
        ...

    def losses(self, outputs: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
        """float64 [n, scales] of outputs float64 [n, C] times each scale; the outputs may be used up."""
        ...

    def figures(self, outputs: Tensor, y: Tensor) -> Tensor:
        """float64 [n]: how good each row's outputs are, 1 where they are right."""
        ...

    def slopes(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """The loss float64 [n] of logits float64 [n, C] and its gradient [n, C]; the logits are used up. None where
        ridge regression has minimised it."""
        ...


class Softmax:
    """One class a row: cross-entropy."""

    figure = "accuracy"
    scales: Sequence[float] = SCALES

    def targets(self, y: Tensor) -> Tensor:
        """Class ids, which stand for rows of 0 and 1."""
        return y

    def losses(self, outputs: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
        """Where a scale is twice an earlier one, the exponentials are the earlier one's squares: one product each
        instead of an exponential, which takes most of the solve where classes are many. Sums are rounded to float32
        before the logarithm: a loss that training in float32 would see as 0 is 0 here, else rows that are all told
        apart would want the largest scale there is, and leave the next rung no gradient.
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

    def figures(self, outputs: Tensor, y: Tensor) -> Tensor:
        """1 where the largest output is the label's."""
        return (outputs.argmax(1) == y).double()

    def slopes(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cross-entropy, and by how much each share is too large."""
        logs = logits.log_softmax(1)
        losses = -logs.gather(1, y[:, None])[:, 0]
        surplus = logs.exp_()
        surplus[torch.arange(len(y)), y] -= 1
        return losses, surplus


class Sigmoid:
    """Each of C labels by itself, 0 or 1: the mean of their binary cross-entropies."""

    figure = "accuracy of each label"
    scales: Sequence[float] = SCALES

    def targets(self, y: Tensor) -> Tensor:
        """−1 and 1, so that an output of 0 says one as surely as the other."""
        return 2 * y - 1

    def losses(self, outputs: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
        """Rounded to float32 as those of Softmax are."""
        towards = outputs * (1 - 2 * y)
        each = [functional.softplus((towards * scale).float()).mean(1) for scale in scales]
        return torch.stack(each, 1).double()

    def figures(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The share of the labels that are told rightly."""
        return ((outputs > 0) == (y > 0.5)).double().mean(1)

    def slopes(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Binary cross-entropy, and by how much each probability is too large."""
        losses = functional.binary_cross_entropy_with_logits(logits, y.double(), reduction="none").mean(1)
        return losses, (logits.sigmoid_() - y) / logits.shape[1]


class Identity:
    """Numbers of mean 0 and variance 1: squared error, which ridge regression minimises as it is."""

    figure = "R²"
    scales: Sequence[float] = (1.0,)

    def targets(self, y: Tensor) -> Tensor:
        """As they are."""
        return y

    def losses(self, outputs: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
        """The mean squared error over a row's numbers."""
        return torch.stack([(outputs * scale - y).square().mean(1) for scale in scales], 1)

    def figures(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Whose mean is R², since the numbers' variance is 1."""
        return 1 - (outputs - y).square().mean(1)

    def slopes(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Nothing is left to do."""
        del logits, y
        return None


LINKS: dict[str, Link] = {"softmax": Softmax(), "sigmoid": Sigmoid(), "identity": Identity()}
