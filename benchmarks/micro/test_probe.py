"""The probe's heads beside scikit-learn's: ridge with the same leave-one-out errors, logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_finetune.labels import Labels
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import Fitted, fit_heads
from hf_finetune.ladder.probe.logistic import Descent, stationary_penalty
from hf_finetune.ladder.probe.ridge import LAMBDAS
from hf_finetune.tasks.classification import ClassTarget

ROWS, WIDTH, CLASSES = 2000, 192, 10
TARGET = ClassTarget(Labels(tuple(map(str, range(CLASSES)))))


def rows() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=ROWS)
    centers = random.standard_normal((CLASSES, WIDTH))
    return (0.3 * centers[labels] + random.standard_normal((ROWS, WIDTH))).astype(np.float32), labels


def fit(features: np.ndarray, labels: np.ndarray) -> Fitted:
    return fit_heads(SplitFeatures(np.arange(ROWS), features, None, None), labels, TARGET)


def test_probe_solve(micro: Any) -> None:
    features, labels = rows()
    # Ours is relative to the mean over the rows, theirs to the sum.
    rival = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=[ROWS * each for each in LAMBDAS]))
    head = fit(features, labels).closed_form()
    agree = head.logits(features).argmax(1) == rival.fit(features, labels).predict(features)
    assert agree.mean() > 0.95  # the same problem, or the ratio means nothing
    micro.compare("probe_solve", lambda: fit(features, labels).closed_form(), lambda: rival.fit(features, labels))


def test_probe_logistic(micro: Any) -> None:
    features, labels = rows()
    fitted = fit(features, labels)
    head = fitted.logistic()
    assert head is not None
    (part,) = fitted.parts
    weight, bias = part.solution.standard(part.choice.penalty, part.choice.scale)
    _, slope, _ = Descent(part.solution, part.pieces, part.link).loss(weight, bias)
    penalty = stationary_penalty(weight, slope)
    rival = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (ROWS * penalty), max_iter=1000))
    expected = rival.fit(features, labels).predict_proba(features)
    found = torch.from_numpy(head.logits(features)).softmax(1).numpy()
    assert np.abs(found - expected).max() < 0.02  # the same problem
    micro.compare("probe_logistic", fitted.logistic, lambda: rival.fit(features, labels))
