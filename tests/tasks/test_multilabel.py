"""Any number of labels: losses beside torch's and the paper's, metrics beside scikit-learn's, thresholds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from hf_finetune.errors import DataError
from hf_finetune.labels import Labels
from hf_finetune.tasks.multilabel import LabelsTarget, Multilabel
from hf_finetune.tasks.scores.label_measures import average_precision, best_threshold
from hf_finetune.tasks.target import values_of
from tests.tasks.targets import index_with

NAMES = ("cat", "dog", "n/a", "rare")


def rows(seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, 4] that tell a little, and labels; none has the last one."""
    random = np.random.default_rng(seed)
    labels = (random.random((count, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(np.float32)
    return (2 * labels - 1.5 + random.normal(0, 1.2, labels.shape)).astype(np.float32), labels


def test_metrics_are_those_of_scikit_learn() -> None:
    logits, labels = rows()
    settled = LabelsTarget(Labels(NAMES))
    answers = settled.answers(logits, labels)
    found = settled.score(answers, labels, full=True)
    scores, said = values_of(answers), values_of(answers) >= 0.5
    assert found["map"] == pytest.approx(sk.average_precision_score(labels[:, :3], scores[:, :3], average="macro"))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(labels, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels[:, :3], said[:, :3], average="macro"))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(labels, said))
    assert found["per_label"]["rare"]["average_precision"] is None
    assert found["per_label"]["dog"]["support"] == labels[:, 1].sum()
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found["loss"] == pytest.approx(float(wanted), rel=1e-6)
    json.dumps(found)


def test_ties_count_together() -> None:
    scores, truth = np.array([0.5, 0.5, 0.5, 0.1]), np.array([1.0, 0.0, 1.0, 1.0])
    assert average_precision(scores, truth) == pytest.approx(sk.average_precision_score(truth, scores))


def test_thresholds_are_the_best_of_all() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        scores, truth = np.round(random.random(30), 1), (random.random(30) < 0.3).astype(float)
        found = best_threshold(scores, truth)
        best = max(sk.f1_score(truth, scores >= cut, zero_division=0.0) for cut in np.linspace(0, 1, 101))
        assert sk.f1_score(truth, scores >= found, zero_division=0.0) == pytest.approx(best)
    assert best_threshold(np.array([0.2, 0.7]), np.zeros(2)) == 0.5


def test_thresholds_travel_with_the_result() -> None:
    logits, labels = rows(1, 200)
    settled = LabelsTarget(Labels(NAMES))
    known = settled.calibrated(settled.answers(logits, labels), labels, "200 rows of validation")
    restored = LabelsTarget.restored(json.loads(json.dumps(known.settings)), Labels(NAMES))
    assert restored == known and restored.cuts != settled.cuts
    plain, chosen = (each.score(each.answers(logits, labels), labels, full=False) for each in (settled, restored))
    assert chosen["macro_f1"] > plain["macro_f1"] and chosen["map"] == plain["map"]


def test_weights_boost_positives_and_what_is_not_known_counts_for_nothing() -> None:
    logits, labels = rows(2)
    settled = Multilabel(positive_weights="auto").settle(index_with([tuple(row) for row in labels.tolist()], NAMES))
    assert settled.positive_weights is not None
    assert settled.positive_weights[0] == pytest.approx((labels[:, 0] == 0).sum() / labels[:, 0].sum())
    assert settled.positive_weights[3] == 10
    given = torch.from_numpy(labels.copy())
    given[0, 1] = float("nan")
    losses = settled.row_loss()(torch.from_numpy(logits), given)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        reduction="none",
        pos_weight=torch.tensor(settled.positive_weights),
    )
    each[0, 1] = 0
    torch.testing.assert_close(losses, each.mean(1))
    assert settled.parts[0].encode(given)[1][:2].tolist() == [0, 1]
    with pytest.raises(DataError, match="one weight for each of the 4 labels is expected, found 2"):
        Multilabel(positive_weights=(1.0, 2.0)).settle(index_with([(0.0,) * 4], NAMES))


def test_the_asymmetric_loss_forgets_easy_negatives() -> None:
    """Equation 5 of arXiv 2009.14119 with γ₊ 0, γ₋ 4, m .05."""
    settled = LabelsTarget(Labels(("a", "b")), loss="asymmetric")
    logits, labels = torch.tensor([[2.0, -4.0], [-1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    share = (logits.sigmoid() - 0.05).clamp(min=0)
    wanted = torch.where(labels == 1, -logits.sigmoid().log(), -(share**4) * (1 - share).log())
    torch.testing.assert_close(settled.row_loss()(logits, labels), wanted.mean(1))
    assert settled.row_loss()(logits, labels)[0] == pytest.approx(float(-logits[0, 0].sigmoid().log()) / 2)
