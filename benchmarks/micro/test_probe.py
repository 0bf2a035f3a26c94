"""The head in closed form, beside scikit-learn's ridge classifier with the same leave-one-out errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_finetune.ladder.hidden import Kept
from hf_finetune.ladder.probe import fit_head
from hf_finetune.ladder.ridge import LAMBDAS

ROWS, WIDTH, CLASSES = 2000, 192, 10


def test_probe_solve(micro: Any) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=ROWS)
    centers = random.standard_normal((CLASSES, WIDTH))
    features = (0.3 * centers[labels] + random.standard_normal((ROWS, WIDTH))).astype(np.float32)
    kept = Kept(np.arange(ROWS), features, None, False)
    # Ours is relative to the mean over the rows, theirs to the sum.
    rival = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=[ROWS * each for each in LAMBDAS]))
    head = fit_head(kept, labels, CLASSES, None)
    agree = head.logits(features).argmax(1) == rival.fit(features, labels).predict(features)
    assert agree.mean() > 0.95  # the same problem, or the ratio means nothing
    micro.compare("probe_solve", lambda: fit_head(kept, labels, CLASSES, None), lambda: rival.fit(features, labels))
