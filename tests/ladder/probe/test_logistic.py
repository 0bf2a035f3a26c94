"""Logistic regression from the closed form on: where it ends, what its penalty is, and when it is not begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_finetune.labels import Labels
from hf_finetune.ladder.probe import heads, logistic
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import Fitted, fit_heads
from hf_finetune.ladder.probe.logistic import refine
from hf_finetune.ladder.probe.ridge import Piece
from hf_finetune.tasks.classification import ClassTarget

ROWS, FEATURES, CLASSES = 240, 12, 4


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Features far from standardised, classes that overlap, one feature that says nothing."""
    generator = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    centres = generator.normal(size=(CLASSES, FEATURES))
    features = centres[labels] + generator.normal(size=(ROWS, FEATURES))
    features = features * np.logspace(-1, 2, FEATURES) + 50
    features[:, 3] = 7
    return features.astype(np.float32), labels


def fitted(rows: tuple[np.ndarray, np.ndarray], class_weights: list[float] | None = None) -> Fitted:
    features, labels = rows
    weights = None if class_weights is None else tuple(class_weights)
    target = ClassTarget(Labels(tuple(map(str, range(CLASSES)))), weights)
    return fit_heads(SplitFeatures(np.arange(ROWS), features, None, None), labels, target)


def penalty_of(found: Fitted, rows: tuple[np.ndarray, np.ndarray], weights: Tensor) -> float:
    """By differences: the penalty under which stretching the closed form's weights gains nothing."""
    (part,) = found.parts
    weight, bias = part.solution.standard(part.choice.penalty, part.choice.scale)
    z = (torch.from_numpy(rows[0]).double() - part.solution.mean) * part.solution.inverse_std
    y = torch.from_numpy(rows[1])

    def loss(stretch: float) -> float:
        each = cross_entropy(z @ (stretch * weight).T + bias, y, reduction="none")
        return float(weights @ each / weights.sum())

    slope = (loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4
    return -slope / float(weight.square().sum())


@pytest.mark.parametrize("class_weights", [None, [1.0, 3.0, 0.5, 1.0]])
def test_it_ends_where_scikit_learn_ends_with_the_same_penalty(
    rows: tuple[np.ndarray, np.ndarray], class_weights: list[float] | None
) -> None:
    found = fitted(rows, class_weights)
    weights = np.ones(ROWS) if class_weights is None else np.array(class_weights)[rows[1]]
    penalty = penalty_of(found, rows, torch.from_numpy(weights))
    solution = found.parts[0].solution
    z = ((torch.from_numpy(rows[0]).double() - solution.mean) * solution.inverse_std).numpy()
    rival = LogisticRegression(C=1 / (penalty * weights.sum()), tol=1e-8, max_iter=10_000)
    rival.fit(z, rows[1], sample_weight=weights)
    head = found.logistic()
    assert head is not None
    expected = rival.predict_proba(z)
    np.testing.assert_allclose(torch.from_numpy(head.logits(rows[0])).softmax(1), expected, atol=2e-3)
    closed = torch.from_numpy(found.closed_form().logits(rows[0])).softmax(1)
    assert np.abs(closed.numpy() - expected).max() > 0.05  # which is somewhere else


def test_a_feature_that_says_nothing_gets_no_weight(rows: tuple[np.ndarray, np.ndarray]) -> None:
    head = fitted(rows).logistic()
    assert head is not None and not head.weight[:, 3].any() and head.weight[:, 4].all()


def test_rows_in_pieces_give_the_same_head(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(rows).logistic()
    monkeypatch.setattr(heads, "CHUNK_ROWS", 37)
    pieces = fitted(rows).logistic()
    assert whole is not None and pieces is not None
    torch.testing.assert_close(pieces.weight, whole.weight, rtol=1e-3, atol=1e-4)


def test_it_is_not_begun_where_it_would_take_long(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MOST_WORK", ROWS * FEATURES * CLASSES - 1)
    assert fitted(rows).logistic() is None
    monkeypatch.setattr(heads, "MOST_WORK", ROWS * FEATURES * CLASSES)
    assert fitted(rows).logistic() is not None


def test_without_a_penalty_to_go_by_the_closed_form_stays(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """A scale far beyond what leave-one-out chose: the training rows themselves want less of it."""
    (found,) = fitted(rows).parts

    def pieces() -> Iterator[Piece]:
        yield Piece(torch.from_numpy(rows[0]), torch.from_numpy(rows[1]), torch.ones(ROWS))

    assert refine(found.solution, replace(found.choice, scale=1e4), pieces, found.link) is None


def test_no_more_evaluations_are_made_than_said(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,), asked = fitted(rows).parts, []
    monkeypatch.setattr(logistic, "EVALUATIONS", 5)

    def pieces() -> Iterator[Piece]:
        asked.append(1)
        yield Piece(torch.from_numpy(rows[0]), torch.from_numpy(rows[1]), torch.ones(ROWS))

    assert refine(found.solution, found.choice, pieces, found.link) is not None
    assert len(asked) <= 1 + 5 + 25  # the last line search may end first: at most 25 of its own
