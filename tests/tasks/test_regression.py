"""Numbers: in and out of their unit, their loss, metrics beside scikit-learn's, intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from hf_finetune.errors import DataError
from hf_finetune.labels import Labels
from hf_finetune.tasks.regression import NumberTarget, Regression
from hf_finetune.tasks.scores.number_measures import half_width
from hf_finetune.tasks.target import values_of
from tests.tasks.targets import index_with

PRICES = np.exp(np.random.default_rng(0).normal(12, 0.5, 80))


def target(log: bool = True, **keys: object) -> NumberTarget:
    return Regression.model_validate({"log": log, **keys}).settle(index_with([(p,) for p in PRICES], ["price"]))


@pytest.mark.parametrize("log", [False, True])
def test_a_perfect_model_says_the_numbers_in_their_unit(log: bool) -> None:
    settled = target(log)
    (part,) = settled.parts
    wanted, weights = part.encode(torch.from_numpy(PRICES[:, None]))
    assert wanted.mean() == pytest.approx(0, abs=1e-5) and wanted.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert weights.tolist() == [1] * 80
    answers = settled.answers(wanted.numpy(), PRICES[:, None])
    np.testing.assert_allclose(values_of(answers)[:, 0], PRICES, rtol=1e-5)
    assert answers.loss.max() < 1e-10
    assert settled.score(answers, PRICES[:, None], full=True)["r2"] == pytest.approx(1)


@pytest.mark.parametrize("log", [False, True])
def test_metrics_are_those_of_scikit_learn_and_scipy(log: bool) -> None:
    settled = target(log)
    logits = settled.standard(PRICES[:, None]) + np.random.default_rng(1).normal(0, 0.7, (80, 1))
    answers = settled.answers(logits.astype(np.float32), PRICES[:, None])
    said = values_of(answers)[:, 0]
    found = settled.score(answers, PRICES[:, None], full=True)
    learnt = (np.log(PRICES), np.log(said)) if log else (PRICES, said)
    assert found["r2"] == pytest.approx(sk.r2_score(*learnt))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(PRICES, said))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(PRICES, said))
    assert found["spearman"] == pytest.approx(stats.spearmanr(PRICES, said).statistic)
    assert found["loss"] == pytest.approx(float(((logits - settled.standard(PRICES[:, None])) ** 2).mean()), rel=1e-5)
    for key in ("r2", "mae", "rmse", "spearman"):
        assert found[f"{key}_low"] < found[key] < found[f"{key}_high"]


@pytest.mark.parametrize(("loss", "function"), [("l1", "l1_loss"), ("huber", "huber_loss"), ("mse", "mse_loss")])
def test_a_number_that_is_missing_is_left_out(loss: str, function: str) -> None:
    labels = [(1.0, 5.0), (2.0, float("nan")), (4.0, 9.0), (6.0, 7.0)]
    settled = Regression.model_validate({"loss": loss}).settle(index_with(labels, ["one", "other"]))
    assert settled.mean == pytest.approx((3.25, 7.0))
    logits, given = torch.randn(4, 2), torch.tensor(labels)
    losses = settled.row_loss()(logits, given)
    wanted = torch.nan_to_num(settled_numbers(settled, given))
    each = getattr(torch.nn.functional, function)(logits, wanted, reduction="none")
    each[1, 1] = 0
    torch.testing.assert_close(losses, each.mean(1))
    assert [part.encode(given)[1].tolist() for part in settled.parts] == [[1, 1, 1, 1], [1, 0, 1, 1]]
    found = settled.score(settled.answers(logits.numpy(), given.numpy()), given.numpy(), full=True)
    assert set(found["per_target"]) == {"one", "other"}


def settled_numbers(settled: NumberTarget, given: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(settled.standard(given.double().numpy())).float()


def test_intervals_cover_what_they_say() -> None:
    random, settled = np.random.default_rng(2), target()
    covered = []
    for _ in range(40):
        held, new = (np.exp(random.normal(12, 0.5, (count, 1))) for count in (60, 200))
        logits = [settled.standard(each) + random.normal(0, 0.6, each.shape) for each in (held, new)]
        known = settled.calibrated(settled.answers(logits[0], held), held, "60 rows")
        covered.append(known.score(known.answers(logits[1], new), new, full=True)["covered"])
    assert 0.88 < float(np.mean(covered)) < 0.93


def test_too_few_rows_make_no_interval() -> None:
    assert half_width(np.arange(8.0), 0.9) == float("inf")
    assert half_width(np.arange(9.0), 0.9) == 8
    settled = target()
    few = PRICES[:5, None]
    assert settled.calibrated(settled.answers(settled.standard(few), few), few, "5 rows").intervals(few) is None


@pytest.mark.parametrize(
    ("labels", "log", "said"),
    [
        ([(3.0,), (3.0,), (3.0,)], False, "numbers that differ"),
        ([(3.0,), (0.0,), (2.0,)], True, "above 0 are expected, found 0 in row1.png"),
    ],
)
def test_numbers_that_cannot_be_learnt_are_refused(labels: list[tuple[float]], log: bool, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Regression(log=log).settle(index_with(labels, ["n"]))


def test_what_a_result_keeps_answers_the_same() -> None:
    import json

    settled = target(unit="EUR")
    settled = settled.calibrated(
        settled.answers(settled.standard(PRICES[:, None]), PRICES[:, None] * 1.1), PRICES[:, None] * 1.1, "x"
    )
    restored = NumberTarget.restored(json.loads(json.dumps(settled.settings)), Labels(("price",)))
    assert restored == settled and restored.half_widths is not None
