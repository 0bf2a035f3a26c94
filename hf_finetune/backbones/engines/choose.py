"""Which engine runs a frozen network: measured on images of the run, and compared with the torch model on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hf_finetune.backbones.engines.engine import Engine, EngineRefusedError, Outputs, reason_of
from hf_finetune.errors import ModelError

logger = logging.getLogger(__name__)
T = TypeVar("T")

SAMPLE = 64  # images that both engines answer, at least, before one stands for the other
LARGEST_ERROR = 0.03  # ‖difference‖ / ‖torch's‖ of features and hidden state; bfloat16 itself makes 1 to 2.5 %
CLEARLY = 1.05  # an engine that is no more than this faster is not worth another rounding
# Seconds of a conversion, before it was made: 3 s for ViT-Tiny, 8 s for ViT-B on two cores.
CONVERSION_S, CONVERSION_S_PER_PARAMETER = 3.0, 6e-8
PAYS = 2  # a conversion is begun where the pass takes so many times as long


def conversion_s(parameters: int) -> float:
    """What a conversion is expected to take."""
    return CONVERSION_S + CONVERSION_S_PER_PARAMETER * parameters


def pays(images: int, image_s: float, parameters: int) -> bool:
    """Whether a pass of `images` at `image_s` each is long enough to convert for it."""
    return images * image_s >= PAYS * conversion_s(parameters)


@dataclass
class Offer:
    """What could run instead of the torch model; without an engine `reason` says why, or is empty where no one asked.

    `seconds`: what making it took. Who used the engine takes it out again: it holds a copy of the weights.
    """

    engine: Engine | None = None
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The engine of a pass; `text` says why in one line, empty where there is nothing to say.

    `eager_s` and `chosen_s`: measured seconds an image (None: not measured). `sample`: what both engines, the torch
    model first, gave for the same images, where another one was chosen. `figures` go into run.json.
    """

    engine: Engine
    text: str = ""
    eager_s: float | None = None
    chosen_s: float | None = None
    sample: tuple[Outputs, Outputs] | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def choose(
    wanted: str, what: str, eager: Engine, offer: Offer, images: int, batches: Callable[[int], Sequence[Tensor]]
) -> Choice:
    """The engine for a pass over `images`; `what` names the pass for people.

    `batches(n)` gives about n of its images, normalised, as in the pass. `wanted` is `model.engine`: with `auto` the
    faster one, the torch model where the other fails or errs; with `graph` that one, or a ModelError.
    """
    other, insists = offer.engine, wanted == "graph"

    def refused(reason: str, **figures: Any) -> Choice:
        if insists:
            raise ModelError(
                f"model.engine: graph is expected to run the {what}, but {reason}.",
                "Leave model.engine out (auto): the torch model then runs it.",
            )
        text = f"{what} by {eager.name}: {reason}" if reason else ""
        return Choice(eager, text, figures={"name": eager.name, "why": reason, **figures})

    if other is None:
        return refused(offer.reason)
    try:
        first = batches(1)[0]
        other(first[:3])  # another size than the one it was traced with, and the kernels' first run
        eager_s, other_s = _seconds(eager, [first])[0], _seconds(other, [first])[0]
        figures = {"compared_with": other.name, "conversion_s": offer.seconds}
        if not insists and other_s * CLEARLY > eager_s:
            return refused(f"{other.name} takes {other_s / eager_s:.2f} × its time", **figures)
        if not insists and images * (eager_s - other_s) < SAMPLE * (eager_s + other_s):
            return refused(f"{images:,} images are too few to compare {other.name} with it", **figures)
        sample = batches(SAMPLE)
        eager_s, expected = _seconds(eager, sample)
        other_s, found = _seconds(other, sample)
        error = max(apart(expected, found))
        error = max(error, *apart(_first(expected, 3), other(sample[0][:3])))
    except (EngineRefusedError, RuntimeError) as error:
        return refused(f"{other.name} failed ({reason_of(error)})")
    figures |= {"images": len(expected.logits), "features_differ_by": error, "times_as_fast": eager_s / other_s}
    if not error <= LARGEST_ERROR:  # a NaN is not
        return refused(
            f"{other.name} differs from it by {100 * error:.1f} %, more than {100 * LARGEST_ERROR:g} %", **figures
        )
    if not insists and other_s * CLEARLY > eager_s:
        return refused(f"{other.name} takes {other_s / eager_s:.2f} × its time", **figures)
    part = "features differ" if expected.features is not None else "logits differ"
    text = f"{what} by {other.name}: {eager_s / other_s:.2g} × as fast as {eager.name}; {part} by {100 * error:.1f} %"
    return Choice(other, text, eager_s, other_s, (expected, found), {"name": other.name, "why": text, **figures})


def evenly(count: int, among: int) -> np.ndarray:
    """int64: at most `count` of the row numbers below `among`, evenly apart, the first and the last with them."""
    return np.unique(np.linspace(0, among - 1, min(count, among)).astype(np.int64))


def apart(expected: Outputs, found: Outputs) -> list[float]:
    """Relative errors ‖found − expected‖ / ‖expected‖ of the answer and, where there is one, of the hidden state."""
    if (expected.hidden is None) != (found.hidden is None):
        raise EngineRefusedError("the state that enters a block cannot be reached")
    pairs = [(expected.answer, found.answer)]
    if expected.hidden is not None and found.hidden is not None:
        pairs.append((expected.hidden, found.hidden))
    errors = []
    for one, other in pairs:
        if one.shape != other.shape:
            raise EngineRefusedError(f"it gives {list(other.shape)} where {list(one.shape)} is expected")
        one = one.double().cpu()
        errors.append(float((other.double() - one).norm() / one.norm().clamp_min(1e-12)))
    return errors


def agreement(expected: Tensor, found: Tensor) -> tuple[int, int, float]:
    """Of two engines' logits [n, C] for the same images: rows, those with another most likely class, and the largest
    difference of a logit as a share of their range."""
    differ = int((expected.argmax(1) != found.argmax(1)).sum())
    spread = float(expected.max() - expected.min()) or 1.0
    return len(expected), differ, float((expected - found).abs().max()) / spread


def _first(outputs: Outputs, count: int) -> Outputs:
    cut = [None if each is None else each[:count] for each in (outputs.features, outputs.hidden)]
    return Outputs(outputs.logits[:count], *cut)


@torch.no_grad()
def _seconds(engine: Engine, batches: Sequence[Tensor]) -> tuple[float, Outputs]:
    """The median seconds an image over the batches, after one that is not counted, and what they gave."""
    engine(batches[0])
    spent, parts = [], []
    for inputs in batches:
        started = time.perf_counter()
        parts.append(engine(inputs))
        spent.append((time.perf_counter() - started) / len(inputs))
    return sorted(spent)[len(spent) // 2], Outputs.joined(parts)
