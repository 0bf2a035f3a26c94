"""What is said of one image: as text, as JSON, and which classes a set has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_finetune.labels import Labels
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.multilabel import LabelsTarget
from hf_finetune.tasks.ordinal import GradeTarget
from hf_finetune.tasks.predictions import ClassPrediction, LabelsPrediction, NumberPrediction
from hf_finetune.tasks.regression import NumberTarget

NAMES = ("cat", "dog", "n/a")


def test_a_class_has_its_probability_at_the_temperature_and_a_set() -> None:
    target = ClassTarget(Labels(NAMES), temperature=2.0, set_threshold=0.3, calibrated_from="validation")
    (said,) = target.predictions(np.array([[2.0, 1.6, -4.0]]))
    assert isinstance(said, ClassPrediction)
    expected = np.exp([1.0, 0.8, -2.0]) / np.exp([1.0, 0.8, -2.0]).sum()
    assert said.probabilities == pytest.approx(expected)
    assert (said.label, said.among) == ("cat", ("cat", "dog"))
    assert said.text(2) == f"cat {expected[0]:.3f}  dog {expected[1]:.3f}"
    (none_of_these,) = replace(target, set_threshold=0.9).predictions(np.array([[2.0, 1.6, -4.0]]))
    assert none_of_these.as_json()["among"] == []
    (uncalibrated,) = ClassTarget(Labels(NAMES)).predictions(np.array([[2.0, 1.6, -4.0]]))
    assert "among" not in uncalibrated.as_json()


def test_sets_hold_the_class_of_nine_new_images_in_ten() -> None:
    random = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, 3, count)
        logits = random.normal(0, 1.5, (count, 3))
        logits[np.arange(count), labels] += 2.0
        return 3 * logits, labels  # three times too sure

    target = ClassTarget(Labels(NAMES))
    held, held_labels = drawn(2000)
    target = target.calibrated(target.answers(held, held_labels), held_labels, "2,000 images")
    assert target.temperature == pytest.approx(3, rel=0.35)
    logits, labels = drawn(4000)
    answers = target.answers(logits, labels)
    score = target.score(answers, labels, full=True)
    assert score["covered"] == pytest.approx(0.9, abs=0.02)
    assert score["ece"] < 0.05
    sets = [each.among for each in target.predictions(logits)]  # type: ignore[attr-defined]
    within = [NAMES[label] in each for label, each in zip(labels, sets, strict=True)]
    assert np.mean(within) == pytest.approx(score["covered"])


def test_answers_from_before_are_said_at_the_temperature() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(0, 3, (50, 3)), random.integers(0, 3, 50)
    target = ClassTarget(Labels(NAMES))
    before = target.answers(logits, labels)
    calibrated = target.calibrated(before, labels, "50 images")
    assert calibrated.temperature != 1
    again, anew = calibrated.again(before), calibrated.answers(logits, labels)
    assert again.loss == pytest.approx(anew.loss, rel=1e-4)
    assert again.confidence == pytest.approx(anew.confidence, rel=1e-4)


def test_labels_are_those_above_their_thresholds() -> None:
    target = LabelsTarget(Labels(NAMES), thresholds=(0.5, 0.9, 0.1), thresholds_from="validation")
    (said,) = target.predictions(np.array([[1.0, 1.0, -1.0]]))
    assert isinstance(said, LabelsPrediction)
    assert said.labels == ("cat", "n/a")
    assert said.text(3) == "cat 0.731  n/a 0.269  dog 0.731"
    (nothing,) = target.predictions(np.array([[-9.0, -9.0, -9.0]]))
    assert nothing.text() == "(no label)"


def test_a_number_is_in_its_unit_with_its_interval() -> None:
    target = NumberTarget(Labels(("price",)), (10.0,), (0.5,), log=True, unit="EUR", half_widths=(2.0,))
    (said,) = target.predictions(np.array([[1.0]]))
    assert isinstance(said, NumberPrediction)
    assert (said.value, said.low, said.high) == (
        pytest.approx(np.exp(10.5)),
        {"price": pytest.approx(np.exp(9.5))},
        {"price": pytest.approx(np.exp(11.5))},
    )
    assert said.text() == "36,316 EUR (90 %: 13,360 to 98,716)"


def test_the_median_grade_is_said_though_another_is_likelier() -> None:
    target = GradeTarget(Labels(("none", "mild", "severe")))
    (said,) = target.predictions(np.log(np.array([[0.55 / 0.45, 0.45 / 0.55]])))
    assert isinstance(said, ClassPrediction)
    assert said.probabilities == pytest.approx((0.45, 0.10, 0.45))
    assert said.text(2).startswith("mild 0.100  ")
