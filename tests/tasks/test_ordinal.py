"""Grades: cumulative links, the median that is said, metrics beside scikit-learn's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from hf_finetune.errors import RecipeError
from hf_finetune.labels import Labels
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.tasks.ordinal import GradeTarget, Ordinal
from hf_finetune.tasks.target import values_of

GRADES = GradeTarget(Labels(("none", "mild", "severe", "fatal")))


def rows(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, 3] of a hidden scale that tells a little, and grades."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, count)
    hidden = labels + random.normal(0, 0.8, count)
    return (3 * (hidden[:, None] - np.array([0.5, 1.5, 2.5]))).astype(np.float32), labels


def test_grades_that_yaml_reads_as_numbers_are_texts_and_none_stands_twice() -> None:
    task = load_recipe({"task": {"kind": "ordinal", "order": [2, 0, 1]}}).task
    assert isinstance(task, Ordinal)
    assert task.order == ("2", "0", "1")
    with pytest.raises(RecipeError, match="each grade is expected once"):
        load_recipe({"task": {"kind": "ordinal", "order": ["mild", "severe", "mild"]}})


def test_targets_say_whether_a_grade_is_above_each() -> None:
    wanted, known = GRADES.cumulative(torch.tensor([0, 1, 3]))
    assert wanted.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1]] and known.tolist() == [1, 1, 1]
    assert GRADES.cumulative(torch.tensor([[float("nan")], [2.0]]))[1].tolist() == [0, 1]
    assert GRADES.outputs.names == ("above none", "above mild", "above severe")


def test_metrics_are_those_of_scikit_learn() -> None:
    logits, labels = rows()
    answers = GRADES.answers(logits, labels)
    said = GRADES.predicted(values_of(answers))
    found = GRADES.score(answers, labels, full=True)
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score(labels, said, weights="quadratic"))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, said))
    assert found["grade_error"] == pytest.approx(np.abs(labels - said).mean())
    assert found["confusion"] == sk.confusion_matrix(labels, said).tolist()
    assert 0.5 < found["kappa"] < 1 and found["near"] >= found["accuracy"]
    json.dumps(found)


def test_probabilities_are_none_below_zero_and_the_median_is_said() -> None:
    logits = np.array(
        [[3.0, -1.0, 2.0], [0.1, 0.2, -5.0]], np.float32
    )  # of which the third must not be above the second
    values = values_of(GRADES.answers(logits, np.array([0, 1])))
    assert (np.diff(values, axis=1) <= 0).all()
    shares = GRADES.probabilities(values)
    assert (shares >= 0).all() and shares.sum(1) == pytest.approx(1)
    assert GRADES.predicted(values).tolist() == [1, 2]


def test_a_result_keeps_the_names_of_the_grades() -> None:
    assert GradeTarget.restored(json.loads(json.dumps(GRADES.settings)), GRADES.outputs) == GRADES


def test_one_grade_nearer_is_a_gain() -> None:
    far, near = (GRADES.answers(np.full((2, 3), value, np.float32), np.array([3, 3])) for value in (-9.0, 9.0))
    assert GRADES.gains(near, far, np.array([3, 3]), "kappa").tolist() == [3, 3]
