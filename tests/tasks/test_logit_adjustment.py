"""Logit adjustment: what the loss adds, what the head in closed form says, and what chooses then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from hf_finetune.errors import RecipeError
from hf_finetune.labels import Labels
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import Fitted, fit_heads
from hf_finetune.ladder.probe.logistic import Kept
from hf_finetune.ladder.probe.rung import balanced
from hf_finetune.pipeline.prepare import settle_task
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.tasks import Target
from hf_finetune.tasks.classification import Classification, ClassTarget, log_prior
from tests.tasks.targets import index_with

NAMES = ("a", "b", "c")
COUNTS = (70, 25, 5)


def settled(**task: object) -> ClassTarget:
    labels = np.repeat(range(3), COUNTS).tolist()
    return Classification.model_validate(task).settle(index_with(labels, NAMES, "classes"))


def features(width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Rows of COUNTS whose classes overlap."""
    random, labels = np.random.default_rng(0), np.repeat(range(3), COUNTS)
    centres = random.normal(size=(3, width))
    return (centres[labels] + 2 * random.normal(size=(len(labels), width))).astype(np.float32), labels


def fitted(target: Target, classes: np.ndarray | None = None) -> Fitted:
    x, labels = features()
    counts = None if classes is None else balanced(classes)
    return fit_heads(SplitFeatures(np.arange(len(labels)), x, None, None), labels, target, counts)


def test_the_loss_is_that_of_logits_plus_the_log_prior() -> None:
    logits, labels = torch.randn(20, 3, generator=torch.manual_seed(0)), torch.arange(20) % 3
    prior = torch.tensor(COUNTS) / 100
    found = settled(logit_adjustment=0.5, label_smoothing=0.1).row_loss()(logits, labels)
    adjusted = logits + 0.5 * prior.log()
    expected = functional.cross_entropy(adjusted, labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(found, expected)


def test_a_loss_of_one_s_own_gets_adjusted_logits() -> None:
    logits, labels = torch.zeros(3, 3), torch.arange(3)
    found = settled(logit_adjustment=1).row_loss(lambda logits, labels: -logits.gather(1, labels[:, None])[:, 0])
    torch.testing.assert_close(found(logits, labels), -torch.tensor(COUNTS).div(100).log())


def test_a_class_without_rows_counts_as_one_row() -> None:
    assert log_prior((9, 0), 2.0) == pytest.approx((2 * np.log(0.9), 2 * np.log(0.1)))


def test_answers_are_of_plain_logits() -> None:
    logits, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])
    for strength in (0, 1):
        assert settled(logit_adjustment=strength).answers(logits, labels).loss == pytest.approx(np.log(3))


def test_the_head_of_logistic_regression_minimises_the_adjusted_loss_in_its_biases() -> None:
    target = settled(logit_adjustment=1)
    head = fitted(target).logistic()
    assert head is not None
    x, labels = features()
    bias = head.bias.clone().requires_grad_()
    loss = target.row_loss()(torch.from_numpy(x) @ head.weight.T + bias, torch.from_numpy(labels)).mean()
    (slope,) = torch.autograd.grad(loss, bias)
    assert slope.abs().max() < 1e-4
    plain = functional.cross_entropy(torch.from_numpy(head.logits(x)), torch.from_numpy(labels), reduction="none")
    assert plain[labels == 0].mean() > plain[labels == 2].mean()  # as if the rare class were as frequent


def test_the_closed_form_is_the_plain_one_less_the_log_prior_in_its_biases() -> None:
    plain, adjusted = (fitted(settled(logit_adjustment=strength)).closed_form() for strength in (0, 1))
    torch.testing.assert_close(adjusted.weight, plain.weight)
    torch.testing.assert_close(plain.bias - adjusted.bias, torch.tensor(log_prior(COUNTS)))


def test_outputs_that_the_base_knew_are_kept_less_the_log_prior() -> None:
    known = Kept(torch.ones(3, 6), torch.tensor([0.1, 0.2, 0.0]), torch.tensor([True, True, False]))
    head = fitted(settled(logit_adjustment=1)).completed(known)
    assert head is not None
    torch.testing.assert_close(head.weight[:2], known.weight[:2])
    torch.testing.assert_close(head.bias[:2], known.bias[:2] - torch.tensor(log_prior(COUNTS))[:2])


def test_a_balanced_sampler_weighs_the_rows_of_the_closed_form_so_that_classes_count_alike() -> None:
    _, labels = features()
    inverse = tuple(100 / (3 * count) for count in COUNTS)
    found, expected = fitted(settled(), labels).closed_form(), fitted(replace(settled(), weights=inverse)).closed_form()
    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)
    assert not torch.allclose(found.bias, fitted(settled()).closed_form().bias, atol=1e-2)


def test_gains_by_balanced_accuracy_are_on_average_its_rise() -> None:
    random, labels = np.random.default_rng(1), np.repeat(range(3), COUNTS)
    target = ClassTarget(Labels(NAMES))
    one, other = (target.answers(random.normal(size=(100, 3)), labels) for _ in range(2))
    rise = balanced_accuracy_score(labels, one.predicted) - balanced_accuracy_score(labels, other.predicted)
    assert target.gains(one, other, labels, "balanced_accuracy").mean() == pytest.approx(rise)


@pytest.mark.parametrize(
    ("overrides", "by"),
    [
        (["task.kind=classification"], "accuracy"),
        (["task.class_weights=auto"], "balanced_accuracy"),
        (["task.logit_adjustment=1"], "balanced_accuracy"),
        (["train.sampler=balanced"], "balanced_accuracy"),
        (["train.sampler=balanced", "train.best_by=loss"], "loss"),
        (["train.sampler=balanced", "task.kind=ordinal"], "kappa"),
    ],
)
def test_where_classes_are_balanced_balanced_accuracy_chooses(overrides: list[str], by: str) -> None:
    kind = "grades" if "task.kind=ordinal" in overrides else "classes"
    recipe, _ = settle_task(load_recipe({}, overrides), index_with([0, 1, 2], ("0", "1", "2"), kind))
    assert recipe.train.best_by == by


def test_a_balanced_sampler_is_refused_where_there_are_no_classes() -> None:
    recipe = load_recipe({}, ["train.sampler=balanced"])
    with pytest.raises(RecipeError) as error:
        settle_task(recipe, index_with([(1.0, 0.0), (0.0, 1.0)], ("x", "y"), "labels"))
    assert error.value.message == (
        "train.sampler: classes or grades to balance are expected, found task.kind=multilabel."
    )
    assert "task.positive_weights=auto" in error.value.hint


@pytest.mark.parametrize(
    "overrides",
    [
        ["task.class_weights=auto", "task.logit_adjustment=1"],
        ["task.class_weights=auto", "train.sampler=balanced"],
        ["task.logit_adjustment=0.5", "train.sampler=balanced"],
    ],
)
def test_classes_are_not_balanced_twice(overrides: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe({}, overrides)
    assert "one of the ways to balance classes is expected" in str(error.value)
    assert all(text in str(error.value) for text in overrides)


def test_weights_of_one_s_own_go_with_either() -> None:
    for other in ("task.logit_adjustment=1", "train.sampler=balanced"):
        assert load_recipe({"task": {"class_weights": [1.0, 2.0]}}, [other]).balances == (other,)
