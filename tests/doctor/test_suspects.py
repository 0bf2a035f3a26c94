"""Flipped labels come first, whatever the task; right ones are left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.doctor.suspects import suspects
from hf_finetune.labels import Labels
from hf_finetune.tasks import Target
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.multilabel import LabelsTarget
from hf_finetune.tasks.ordinal import GradeTarget
from hf_finetune.tasks.regression import NumberTarget
from hf_finetune.tasks.several_target import SeveralTarget, Single

NAMES = ("ant", "bee", "n/a")


def _classes(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and logits that are mostly right."""
    truth = np.arange(count) % len(NAMES)
    return truth, (3 * np.eye(len(NAMES))[truth] + random.normal(0, 0.7, (count, len(NAMES)))).astype(np.float32)


def told(target: Target, logits: np.ndarray, labels: np.ndarray) -> list[tuple[int, str]]:
    return [(each.row, each.label) for each in suspects(target, target.answers(logits, labels), labels)]


def test_flipped_classes_come_first_with_the_right_one() -> None:
    truth, logits = _classes(np.random.default_rng(0), 90)
    labels = truth.copy()
    flipped = {7: "bee", 30: "ant", 62: "n/a"}
    for row in flipped:
        labels[row] = (truth[row] + 1) % 3
    logits[list(flipped)] = 4 * np.eye(3)[truth[list(flipped)]]
    found = told(ClassTarget(Labels(NAMES)), logits, labels)
    assert dict(found[:3]) == flipped
    assert len(found) <= 6
    (first, *_) = suspects(ClassTarget(Labels(NAMES)), ClassTarget(Labels(NAMES)).answers(logits, labels), labels)
    assert 0.9 < first.score <= 1 and "looks like" in first.detail


def test_a_class_of_a_few_rows_suspects_nobody() -> None:
    truth, logits = _classes(np.random.default_rng(0), 60)
    labels = np.where(truth == 2, 0, truth)
    labels[[2, 5]] = 2  # two rows: nothing is known of how they are answered
    assert all(label != "n/a" for _, label in told(ClassTarget(Labels(NAMES)), logits, labels))


def test_grades_are_suspected_as_classes_are() -> None:
    target = GradeTarget(Labels(("mild", "moderate", "severe")))
    truth = np.arange(60) % 3
    logits = np.stack([np.where(truth > 0, 4.0, -4.0), np.where(truth > 1, 4.0, -4.0)], 1).astype(np.float32)
    labels = truth.copy()
    labels[9] = 2
    assert told(target, logits, labels) == [(9, "mild")]


@pytest.mark.parametrize("log", [False, True])
def test_a_number_that_is_far_off_is_suspected(log: bool) -> None:
    random = np.random.default_rng(0)
    truth = np.exp(random.normal(11, 1, 200))
    target = NumberTarget(Labels(("price",)), (11.0 if log else 1e5,), (1.0 if log else 1e5,), log=log)
    learnt = (np.log(truth) - 11 if log else truth / 1e5 - 1) + random.normal(0, 0.05, 200)
    labels = truth[:, None].copy()
    labels[13] *= 100
    labels[20] = np.nan
    (first,) = [each for each in told(target, learnt[:, None].astype(np.float32), labels) if each[0] == 13]
    assert first == (13, "")
    assert len(told(target, learnt[:, None].astype(np.float32), labels)) <= 3


def test_a_label_too_many_or_too_few_is_named() -> None:
    target = LabelsTarget(Labels(("day", "indoors")))
    truth = np.stack([np.arange(40) % 2, np.arange(40) // 2 % 2], 1).astype(np.float64)
    logits = (8 * truth - 4).astype(np.float32)
    labels = truth.copy()
    labels[4, 0], labels[11, 1], labels[20, 0] = 1, 1 - truth[11, 1], np.nan
    found = suspects(target, target.answers(logits, labels), labels)
    assert {each.row for each in found} == {4, 11}
    assert any("may not be day" in each.detail for each in found)
    assert any("may lack indoors" in each.detail or "may not be indoors" in each.detail for each in found)


def test_of_several_targets_each_is_judged_where_it_is_known() -> None:
    truth, logits = _classes(np.random.default_rng(0), 60)
    single = Single("insect", ClassTarget(Labels(NAMES)), "classes", 1, 1.0)
    number = Single("size", NumberTarget(Labels(("size",)), (0.0,), (1.0,)), "numbers", 1, 1.0)
    sizes = np.random.default_rng(1).normal(0, 1, 60)
    labels = np.stack([truth.astype(np.float64), sizes], 1)
    labels[5, 0] = (truth[5] + 1) % 3
    labels[8, 0] = np.nan
    logits[5] = 4 * np.eye(3)[truth[5]]
    said = np.concatenate([logits, (sizes + 0.01 * np.arange(60) % 0.05)[:, None]], 1).astype(np.float32)
    target = SeveralTarget((single, number))
    found = suspects(target, target.answers(said, labels), labels)
    assert found[0].row == 5 and found[0].detail.startswith("insect: looks like") and found[0].label == ""
    assert all(each.row != 8 for each in found)
