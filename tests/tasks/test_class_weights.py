"""The recipe's class weights."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from hf_finetune.errors import DataError
from hf_finetune.tasks.classification import Classification, auto_class_weights


def test_classes_count_alike_by_default() -> None:
    assert Classification().weights_for([5, 9]) is None


def test_auto_weights_are_scikit_learns_balanced_ones() -> None:
    counts = [10, 40, 25, 60]
    labels = np.repeat(np.arange(4), counts)
    balanced = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert Classification(class_weights="auto").weights_for(counts) == pytest.approx(balanced.tolist())


def test_auto_weights_have_mean_1_over_rows_also_when_a_rare_class_is_capped() -> None:
    counts = [100_000, 1, 50_000]
    weights = auto_class_weights(counts)
    assert np.average(weights, weights=counts) == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(10.0 / (150_001 / 300_000))


def test_a_class_without_rows_weighs_as_much_as_the_rarest_can() -> None:
    assert auto_class_weights([4, 0, 4]) == pytest.approx([1.0, 15.0, 1.0])


def test_auto_weights_without_rows_are_refused() -> None:
    with pytest.raises(DataError) as error:
        auto_class_weights([0, 0])
    assert error.value.message == "task.class_weights=auto: training rows are expected, found none."


def test_given_weights_are_used_as_they_are() -> None:
    assert Classification(class_weights=(1.0, 2.5)).weights_for([3, 3]) == [1.0, 2.5]


def test_a_list_of_another_length_than_the_classes_is_refused_naming_the_key() -> None:
    with pytest.raises(DataError) as error:
        Classification(class_weights=(1.0, 2.0, 3.0)).weights_for([1] * 6)
    assert error.value.message == ("task.class_weights: one weight for each of the 6 classes is expected, found 3.")
    assert "task.class_weights=auto" in error.value.hint


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_weights_that_are_not_positive_and_finite_are_refused(weight: float) -> None:
    with pytest.raises(ValidationError):
        Classification.model_validate({"class_weights": [1.0, weight]})
