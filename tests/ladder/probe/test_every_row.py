"""The final head knows every labelled row, and what is said of a row comes of heads that did not know it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_finetune.labels import Labels
from hf_finetune.ladder.probe.every_row import FOLDS, Stacked, deal, together
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import Fitted, fit_heads
from hf_finetune.ladder.probe.rung import LOGISTIC, REFITTED, Probed, better_head
from hf_finetune.plan.context import RunContext
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.types import LabelledRows, Row, Split
from tests.training.rows import LABELS, context_of, save_tiny_vit, tiny_plan, tiny_recipe

CLASSES = len(LABELS.names)
TARGET = ClassTarget(Labels(LABELS.names))


def features(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def split_of(features: np.ndarray) -> SplitFeatures:
    return SplitFeatures(np.arange(len(features)), features, None, None)


def test_rows_of_two_splits_are_read_as_those_of_one() -> None:
    first, second = features(7), features(5, seed=1)
    both, stacked = np.concatenate([first, second]), Stacked((first, second))
    assert stacked.shape == (12, 24)
    order = np.random.default_rng(0).permutation(12)
    for where in (slice(0, 12), slice(2, 6), slice(5, 9), slice(8, 100), slice(3, 3), order, order > 4, order[:0]):
        np.testing.assert_array_equal(stacked[where], both[where])
    kept = together(split_of(first), split_of(second), 7)
    np.testing.assert_array_equal(kept.rows, np.arange(12))
    np.testing.assert_array_equal(kept.features[4:10], both[4:10])


def test_folds_share_everything_and_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    labels, places = np.repeat(np.arange(4), [50, 20, 15, 5]), rng.normal(size=90)
    units = np.full(90, -1)
    units[[3, 60, 80]], units[[10, 11]] = 0, 7
    fold = deal(units, labels, places)
    assert len({*fold[[3, 60, 80]]}) == len({*fold[[10, 11]]}) == 1
    for label, count in enumerate(np.bincount(labels)):
        shares = np.bincount(fold[labels == label], minlength=FOLDS)
        assert abs(shares - count / FOLDS).max() <= 2.5, label
    order = rng.permutation(90)
    np.testing.assert_array_equal(deal(units[order], labels[order], places[order]), fold[order])
    assert set(deal(np.full(12, -1), rng.normal(size=(12, 2)), rng.normal(size=12))) == set(range(FOLDS))


def fitted_on(x: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None) -> Fitted:
    return fit_heads(split_of(x), labels, TARGET, counts)


def test_a_row_is_answered_by_a_head_that_did_not_see_it() -> None:
    """Each fold's rows, as logistic regression on the rows of the others answers them."""
    x, labels = features(90), np.arange(90) % CLASSES
    x[:, :CLASSES] += np.eye(CLASSES)[labels] * 1.5
    units = np.arange(90) % 3  # three folds that are known
    fitted = fitted_on(x, labels)
    found = fitted.cross_fitted(units)
    assert found is not None
    np.testing.assert_array_equal(found.rows, np.arange(90))
    for unit in range(3):
        held = units == unit
        part = replace(fitted.parts[0], **_choice_of(fitted))
        head = replace(fitted, parts=(part.without(held),)).logistic()
        assert head is not None
        seen = fitted_on(x[~held], labels[~held])
        same = replace(seen, parts=(replace(seen.parts[0], **_choice_of(fitted)),)).logistic()
        assert same is not None
        torch.testing.assert_close(head.weight, same.weight, rtol=1e-3, atol=1e-4)
        logits = torch.from_numpy(same.logits(x[held]))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[held]), reduction="none")
        np.testing.assert_allclose(found.answers.loss[held], loss.numpy(), rtol=2e-3, atol=1e-4)


def _choice_of(fitted: Fitted) -> dict[str, object]:
    return {"choice": fitted.parts[0].choice}


class Rows:
    """Names and labels."""

    def __init__(self, split: str, labels: np.ndarray) -> None:
        self.names = tuple(f"{split}{number}.png" for number in range(len(labels)))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    recipe = tiny_recipe(save_tiny_vit(tmp_path_factory.mktemp("tiny")))
    return context_of(recipe, tiny_plan())


Labelled = tuple[np.ndarray, np.ndarray]  # features and labels


def probed(context: RunContext, train: Labelled, validation: Labelled, *, refit: bool = True) -> Probed:
    given: dict[Split, Labelled] = {"train": train, "validation": validation}
    rows: dict[Split, LabelledRows] = {split: Rows(split, labels) for split, (_, labels) in given.items()}
    splits = {split: tuple(Row(name, 0, 0) for name in its.names) for split, its in rows.items()}
    context = replace(context, index=replace(context.index, splits={**splits}))
    own = {split: split_of(x) for split, (x, _) in given.items()}
    return better_head(context, rows, own, refit=refit)


def apart(count: int, seed: int, away: float = 2.0, turned: int = 0) -> Labelled:
    """Features of classes that are `away` from each other, `turned`: each has the place of another."""
    labels = np.arange(count) % CLASSES
    x = features(count, seed=seed)
    x[:, :CLASSES] += away * np.eye(CLASSES, dtype=np.float32)[(labels + turned) % CLASSES]
    return x, labels


@pytest.mark.parametrize("away", [0.4, 4.0])
def test_the_final_head_is_that_of_all_rows(context: RunContext, away: float) -> None:
    train, validation = apart(60, 1, away), apart(40, 2, away)
    found = probed(context, train, validation)
    assert found.note.endswith(REFITTED)
    alone, every = (
        fitted_on(x, labels)
        for x, labels in (train, (np.concatenate([train[0], validation[0]]), np.concatenate([train[1], validation[1]])))
    )
    kind = "logistic" if LOGISTIC in found.note else "closed_form"
    for head, fitted in ((found.head, alone), (found.final, every)):
        wanted = getattr(fitted, kind)()
        torch.testing.assert_close(head.weight, wanted.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head.bias, wanted.bias, rtol=1e-4, atol=1e-5)
    assert found.left_out is not None
    assert (len(found.left_out.labels), found.left_out.of) == (100, "training and validation")
    np.testing.assert_allclose(found.answers.loss, found.left_out.answers.loss[60:])
    assert found.closed_form is not None
    assert len(found.closed_form.labels) == 60  # of training rows, for what looks at their labels
    without = probed(context, train, validation, refit=False)
    torch.testing.assert_close(without.final.weight, without.head.weight)


def test_validation_is_no_better_for_being_fitted_on(context: RunContext) -> None:
    """Where there is nothing to know, the figures say so, though the final head answers every row rightly."""
    rng = np.random.default_rng(0)
    train, validation = (
        (features(count, 200, seed), rng.integers(CLASSES, size=count)) for count, seed in ((90, 3), (60, 4))
    )
    found = probed(context, train, validation)
    assert found.metrics["accuracy"] < 1 / CLASSES + 3 * (1 / CLASSES / 60) ** 0.5
    assert found.left_out is not None
    of_all = (found.left_out.answers.loss > np.log(CLASSES)).mean()
    assert of_all > 0.4
    x, labels = np.concatenate([train[0], validation[0]]), np.concatenate([train[1], validation[1]])
    every = fitted_on(x, labels).logistic() or fitted_on(x, labels).closed_form()
    assert (every.logits(validation[0]).argmax(1) == validation[1]).mean() > 0.9


def test_rows_of_another_kind_are_left_to_choose_alone(context: RunContext) -> None:
    """Few validation rows that are as training says, told by a head that most rows of validation contradict."""
    train, odd = apart(60, 1, 6.0), apart(60, 2, 6.0, turned=1)
    found = probed(context, train, odd)
    assert found.metrics["accuracy"] >= probed(context, train, odd, refit=False).metrics["accuracy"]
