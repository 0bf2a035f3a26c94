"""Seeded answers of every kind of task, scored by the task itself, and a run's report around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hf_finetune.labels import Labels
from hf_finetune.pipeline.pages.at_the_end import evidence_of
from hf_finetune.report.fields import RunReport
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.multilabel import LabelsTarget
from hf_finetune.tasks.ordinal import GradeTarget
from hf_finetune.tasks.regression import NumberTarget
from hf_finetune.tasks.several_target import SeveralTarget, Single
from hf_finetune.tasks.target import Target
from hf_finetune.types import Candidate
from tests.report.example import FORECAST, example


class Rows:
    """Decoded rows of noise: PixelRows of any size without the memory."""

    def __init__(self, labels: np.ndarray, side: int = 224) -> None:
        self.labels, self._side = labels, side
        self.sizes = np.full((len(labels), 2), side, np.int32)
        self.names = [f"test/folder & more/image {n:05d} <i>.jpg" for n in range(len(labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        shape = (3, self._side, self._side)
        return np.stack([np.random.default_rng(int(n)).integers(0, 256, shape, dtype=np.uint8) for n in indices])


def of(target: Target, logits: np.ndarray, labels: np.ndarray, side: int = 224) -> Evidence:
    """As a run has it at its end."""
    answers = target.answers(logits.astype(np.float32), labels)
    target = target.calibrated(answers, labels, "20 validation images")
    answers = target.again(answers)
    return evidence_of("test", target, answers, target.score(answers, labels, full=True), Rows(labels, side))


def classes(names: Sequence[str], rows: int, strength: float = 3.0, side: int = 224) -> Evidence:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(names), rows)
    logits = rng.normal(size=(rows, len(names)))
    logits[np.arange(rows), labels] += strength
    return of(ClassTarget(Labels(tuple(names)), counts=(5,) * len(names)), logits, labels, side)


def grades(rows: int = 60) -> Evidence:
    rng = np.random.default_rng(1)
    names, labels = ("none", "mild <1>", "severe"), rng.integers(0, 3, rows)
    logits = (labels[:, None] > np.arange(2)) * 3.0 - 1.5 + rng.normal(size=(rows, 2))
    return of(GradeTarget(Labels(names)), logits, labels)


def labels(rows: int = 60, unknown: bool = False) -> Evidence:
    rng = np.random.default_rng(2)
    truth = (rng.random((rows, 3)) < 0.4).astype(np.float32)
    logits = truth * 4 - 2 + rng.normal(size=truth.shape) * 2
    if unknown:
        truth[::3, 1] = np.nan
    return of(LabelsTarget(Labels(("a; b", "<b>", "sea"))), logits, truth)


def numbers(
    rows: int = 60, *, log: bool = True, names: tuple[str, ...] = ("price",), missing: bool = False
) -> Evidence:
    rng = np.random.default_rng(3)
    standard = rng.normal(size=(rows, len(names)))
    target = NumberTarget(Labels(names), (10.0,) * len(names), (0.5,) * len(names), log, unit="EUR")
    true = target.in_unit(standard)
    if missing:
        true[::4, 0] = np.nan
    return of(target, standard + rng.normal(size=standard.shape) * 0.3, true.astype(np.float32))


def several(rows: int = 60) -> Evidence:
    """A class, a number and labels, each missing in some rows."""
    rng = np.random.default_rng(4)
    singles = (
        Single("kind", ClassTarget(Labels(("cat", "dog <3"))), "classes", 1, 1.0),
        Single("price", NumberTarget(Labels(("price",)), (10.0,), (0.5,), True, unit="EUR"), "numbers", 1, 1.0),
        Single("tags", LabelsTarget(Labels(("x", "y"))), "labels", 2, 1.0),
    )
    kind, price = rng.integers(0, 2, rows), rng.normal(size=rows)
    tags = (rng.random((rows, 2)) < 0.5).astype(float)
    truth = np.column_stack([kind, np.exp(price * 0.5 + 10), tags]).astype(np.float32)
    truth[::5, 0], truth[1::5, 1], truth[2::5, 2:] = np.nan, np.nan, np.nan
    clean = np.column_stack([1.0 - kind, 1.0 * kind, price, tags * 4 - 2])
    return of(SeveralTarget(singles), clean + rng.normal(size=clean.shape) * 0.4, truth)


KINDS = {
    "classes": lambda: classes(("glass", "<b>", "n/a", "line\nbreak", "שלום"), 80),
    "grades": grades,
    "labels": labels,
    "labels, some unknown": lambda: labels(unknown=True),
    "a number": numbers,
    "two numbers": lambda: numbers(log=False, names=("width", "height <m>"), missing=True),
    "several": several,
}


def report_of(evidence: Evidence, *, test: bool = True, **changes: Any) -> RunReport:
    """A run that came to this evidence, by a probe and a training."""
    base = example(list(evidence.outputs), test=test)
    score = dict(evidence.score)
    by = evidence.words.first.key
    values = [{by: 0.9 * score[by]}, {by: score[by]}]
    rungs = (
        Candidate("probe", values[0], 1.5, 10**9, 0, note="λ 0.1", at_s=12.0),
        Candidate("full", values[1], 30.0, 10**9, 40, forecast_s=28.0, at_s=50.0, images=640),
    )
    recipe = {**base.recipe, "train": {**base.recipe["train"], "best_by": by}}
    measured = {"total": 1_480_000_000, "process": 520_000_000}
    memory = {"forecast": {"total": sum(FORECAST.values()), "parts": FORECAST}, "measured": measured}
    found = replace(
        base,
        task=evidence.task,
        recipe=recipe,
        rungs=rungs,
        validation=score,
        test=score if test else {},
        memory=memory,
        data={**base.data, "labels": list(evidence.outputs)},
    )
    return replace(found, **changes)


LOG = [
    {"seconds": 1.0, "step": 1, "loss": 2.0},
    *({"seconds": 5.0 * n, "step": n, **dict.fromkeys(("eval_accuracy", "eval_kappa", "eval_map", "eval_r2",
       "eval_mean_score"), 0.1 * n)} for n in range(1, 7)),
]  # fmt: skip
