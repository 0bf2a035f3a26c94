"""Labels that are likely wrong, by what a head says of rows that it was not fitted on; for every task.

Classes, grades and single labels by confident learning (Northcutt et al. 2021, arXiv 1911.00068): a row is suspected
where another answer than its label is likeliest, and as likely as it is on the mean for the rows that have it. Numbers
by how far they are off beside the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hf_finetune.labels import Answers, ClassAnswers, TargetAnswers
from hf_finetune.tasks import Target
from hf_finetune.tasks.multilabel import LabelsTarget
from hf_finetune.tasks.ordinal import GradeTarget
from hf_finetune.tasks.regression import NumberTarget
from hf_finetune.tasks.several_target import SeveralTarget
from hf_finetune.tasks.target import values_of
from hf_finetune.units import format_quantity

# Robust standard deviations from which a number is suspected; of a normal distribution one row in two million.
_FAR = 5.0
_LEAST_ROWS = 5  # of a class, a label or a number: with fewer nothing is known of how it is answered


@dataclass(frozen=True)
class Suspect:
    """Row `row` (its place among the answers): `score` is 1 less the probability of its label, or of a number how many
    robust standard deviations it is off; `label`: what is said instead, where that can be written as one label."""

    row: int
    score: float
    label: str
    detail: str


def suspects(target: Target, answers: Answers, labels: np.ndarray) -> list[Suspect]:
    """Of answers to rows that nothing was fitted on, with their labels [N, …]; the surest first."""
    return sorted(_of(target, answers, np.asarray(labels)), key=lambda each: (-each.score, each.row))


def _of(target: Target, answers: Answers, labels: np.ndarray) -> Iterator[Suspect]:
    if isinstance(target, SeveralTarget) and isinstance(answers, TargetAnswers):
        for (single, _, place), part in zip(target.places(), answers.parts, strict=True):
            there, known = single.own(labels[:, place])
            rows = np.flatnonzero(there)
            for each in _of(single.target, part.take(rows), known):
                yield replace(each, row=int(rows[each.row]), label="", detail=f"{single.name}: {each.detail}")
    elif isinstance(answers, ClassAnswers):
        yield from _classes(target.outputs.names, np.exp(-answers.loss), answers.predicted, answers.confidence, labels)
    elif isinstance(target, GradeTarget):
        shares = target.probabilities(values_of(answers))
        given = labels.astype(np.int64)
        every, best = np.arange(len(shares)), shares.argmax(1)
        yield from _classes(target.grades.names, shares[every, given], best, shares[every, best], given)
    elif isinstance(target, NumberTarget):
        yield from _numbers(target, values_of(answers), labels.reshape(len(labels), -1))
    elif isinstance(target, LabelsTarget):
        yield from _label_sets(target.outputs.names, values_of(answers), labels)


def _classes(
    names: tuple[str, ...], own: np.ndarray, best: np.ndarray, best_share: np.ndarray, given: np.ndarray
) -> Iterator[Suspect]:
    """`own` [N]: probability of each row's label; `best` [N] is the likeliest, of `best_share`."""
    counts = np.bincount(given, minlength=len(names))
    usual = np.bincount(given, own, minlength=len(names)) / np.maximum(counts, 1)
    enough = counts >= min(_LEAST_ROWS, counts.max())
    for row in np.flatnonzero((best != given) & (best_share >= usual[best]) & enough[best]):
        said, label = names[best[row]], names[given[row]]
        detail = f"looks like {said} ({best_share[row]:.2f}), not like {label} ({own[row]:.2f})"
        yield Suspect(int(row), float(1 - own[row]), said, detail)


def _label_sets(names: tuple[str, ...], shares: np.ndarray, labels: np.ndarray) -> Iterator[Suspect]:
    """A finding a row, of all labels that it may lack or have too many."""
    wrong: dict[int, list[tuple[float, str]]] = {}
    for place, name in enumerate(names):
        given, share = labels[:, place], shares[:, place]
        has, has_not = given == 1, given == 0
        if min(has.sum(), has_not.sum()) < _LEAST_ROWS:
            continue
        # Positives are rare and unsure: what counts as usual is at least a half.
        lacks = has_not & (share >= max(0.5, share[has].mean()))
        extra = has & (1 - share >= max(0.5, (1 - share[has_not]).mean()))
        for row in np.flatnonzero(lacks):
            wrong.setdefault(int(row), []).append((float(share[row]), f"may lack {name} ({share[row]:.2f})"))
        for row in np.flatnonzero(extra):
            wrong.setdefault(int(row), []).append((float(1 - share[row]), f"may not be {name} ({share[row]:.2f})"))
    for row, found in wrong.items():
        found.sort(reverse=True)
        yield Suspect(row, found[0][0], "", "; ".join(text for _, text in found))


def _numbers(target: NumberTarget, said: np.ndarray, given: np.ndarray) -> Iterator[Suspect]:
    wrong: dict[int, list[tuple[float, str]]] = {}
    names = target.outputs.names
    for place, name in enumerate(names):
        one, other = said[:, place], given[:, place].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.log(one) - np.log(other) if target.log else one - other
        known = np.isfinite(off)
        if known.sum() < _LEAST_ROWS:
            continue
        middle = np.median(off[known])
        spread = 1.4826 * np.median(np.abs(off[known] - middle))  # a normal distribution's deviation, of its median
        if not spread > 0:
            continue
        far = np.where(known, np.abs(off - middle) / spread, 0.0)
        for row in np.flatnonzero(far >= _FAR):
            like = format_quantity(float(one[row]))
            which = f"{name}: " if len(names) > 1 else ""
            detail = f"{which}looks like {like}, not like {format_quantity(float(other[row]))}"
            wrong.setdefault(int(row), []).append((float(far[row]), detail))
    for row, found in wrong.items():
        found.sort(reverse=True)
        yield Suspect(row, found[0][0], "", "; ".join(text for _, text in found))
