"""Rows that belong together are left out together: their order, and what is then chosen and said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hf_finetune.labels import Labels
from hf_finetune.ladder.probe import heads, left_together
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import fit_heads
from hf_finetune.ladder.probe.left_together import Run, side_by_side
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.regression import NumberTarget

CLASSES = ClassTarget(Labels(("a", "b", "c")))
NUMBER = NumberTarget(Labels(("price",)), mean=(0.0,), std=(1.0,))


def kept_of(features: np.ndarray) -> SplitFeatures:
    return SplitFeatures(np.arange(len(features)), features.astype(np.float32), None, None)


def patients(count: int, of_each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, numbers and patients: each patient has a look and a number that have nothing to do with each other."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(count), of_each)
    order = random.permutation(len(who))
    look = random.standard_normal((count, 48))[who] + 0.05 * random.standard_normal((len(who), 48))
    numbers = random.standard_normal((count, 1))[who].astype(np.float32)
    return look[order], numbers[order], who[order]


def test_rows_of_a_unit_are_beside_each_other_by_size() -> None:
    units = np.array([7, -1, 3, 7, -1, 3, 3, 9])
    kept, runs = side_by_side(kept_of(np.arange(8)[:, None]), units)
    assert runs == (Run(0, 3, 1), Run(3, 5, 2), Run(5, 8, 3))
    assert kept.rows.tolist() == [1, 4, 7, 0, 3, 2, 5, 6]
    assert kept.features[:, 0].tolist() == kept.rows.tolist()


@pytest.mark.parametrize("units", [None, np.full(6, -1), np.arange(6), np.zeros(6, int), np.zeros(0, int)])
def test_rows_that_are_alone_and_a_unit_of_all_stay_as_they_are(units: np.ndarray | None) -> None:
    kept = kept_of(np.zeros((6 if units is None else len(units), 2)))
    assert side_by_side(kept, units) == (kept, (Run(0, len(kept.rows), 1),))


def test_a_large_unit_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_together, "MOST_TOGETHER", 4)
    _, runs = side_by_side(kept_of(np.zeros((12, 1))), np.array([0] * 10 + [-1] * 2))
    assert runs == (Run(0, 2, 1), Run(2, 4, 2), Run(4, 12, 4))


def test_parts_of_a_run_hold_whole_units() -> None:
    run = Run(3, 15, 3)
    assert list(run.parts(7)) == [slice(3, 9), slice(9, 15)]
    assert list(run.parts(1)) == [slice(3, 6), slice(6, 9), slice(9, 12), slice(12, 15)]
    assert [part.tolist() for part in run.parts(7, 2) if isinstance(part, np.ndarray)] == [[3, 4, 5, 9, 10, 11]]


def test_a_patients_other_pictures_do_not_answer_for_it() -> None:
    """By rows the head seems to know the numbers; of a patient whom it has not seen it knows nothing."""
    features, numbers, who = patients(60, 5)
    by_row = fit_heads(kept_of(features), numbers, NUMBER)
    by_patient = fit_heads(kept_of(features), numbers, NUMBER, units=who)
    assert by_row.parts[0].choice.figure > 0.3
    assert by_patient.parts[0].choice.figure < 0.1
    assert by_patient.parts[0].choice.penalty > 10 * by_row.parts[0].choice.penalty
    assert "leave-group-out" in by_patient.note
    assert "leave-one-out" in by_row.note


@pytest.mark.parametrize("classes", [False, True])
def test_what_is_said_of_left_out_rows_is_what_a_head_without_them_says(classes: bool) -> None:
    """The same standardisation and weight of the penalty, which leaving out does not change."""
    features, numbers, who = patients(12, 3, seed=1)
    labels = (np.arange(len(who)) % 3).astype(np.int64) if classes else numbers
    units = np.where(who < 4, -1, who)
    target = CLASSES if classes else NUMBER
    fitted = fit_heads(kept_of(features), labels, target, units=units)
    (part,) = fitted.parts
    found = torch.cat(list(part.left_out(at_once=7)))
    rows = fitted.rows.left_out
    assert sorted(rows) == list(range(len(who)))
    z = (torch.from_numpy(features).float().double() - part.solution.mean) * part.solution.inverse_std
    wanted = torch.eye(3, dtype=torch.float64)[labels] if classes else torch.from_numpy(numbers).double()
    for unit in {*units, -1}:
        for together in [units == unit] if unit >= 0 else [np.arange(len(who)) == row for row in np.where(who < 4)[0]]:
            design = torch.cat([z[~together], torch.ones(int((~together).sum()), 1, dtype=torch.float64)], 1)
            penalty = part.choice.penalty * len(who) * torch.eye(design.shape[1], dtype=torch.float64)
            penalty[-1, -1] = 0
            weight = torch.linalg.solve(design.T @ design + penalty, design.T @ wanted[~together])
            expected = (z[together] @ weight[:-1] + weight[-1]) * part.choice.scale
            places = [rows.tolist().index(row) for row in np.flatnonzero(together)]
            torch.testing.assert_close(found[places].double(), expected, rtol=2e-3, atol=2e-3)
    said = fitted.left_out()
    np.testing.assert_array_equal(said.labels, labels)


def test_many_large_groups_are_left_out_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    features, numbers, who = patients(40, 5)
    monkeypatch.setattr(heads, "MOST_LEFT_OUT", 200 * 5 * (48 + 5) * len(heads.LAMBDAS) // 2)
    fitted = fit_heads(kept_of(features), numbers, NUMBER, units=who)
    assert fitted.rows.every == 2
    said = fitted.left_out()
    assert len(said.labels) == 100
    chosen = np.sort(fitted.rows.left_out)
    assert len({*who[chosen]}) == 20
    np.testing.assert_array_equal(said.labels, numbers[chosen])
    assert dataclasses.astuple(said.answers)[0].shape[0] == 100
