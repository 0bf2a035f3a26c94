"""The average of a rung's weights: its formula, who sees it, and where it is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_finetune.adapters import Full
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.training.averaging import ETA, AveragedWeights, may_average
from hf_finetune.training.pace import Pace
from tests.training.rows import adapted, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import run, trained

LAST = slice(-8, None)


def averaged_over(history: list[float]) -> float:
    """The average by its definition: after update t it moves by (η + 1)/(t + η)."""
    average = history[0]
    for number, value in enumerate(history[1:], start=2):
        average += (ETA + 1) / (number + ETA) * (value - average)
    return average


def after(averaged: AveragedWeights, step: int) -> None:
    nothing: Any = None
    averaged.on_step_end(nothing, SimpleNamespace(global_step=step), nothing)  # pyright: ignore[reportArgumentType]


def test_later_weights_count_more_and_the_weights_come_back() -> None:
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    averaged = AveragedWeights(model)
    with averaged.in_place():  # before the first update there is none
        assert model.weight.item() == pytest.approx(model.weight.item())
    history = np.random.default_rng(0).normal(size=40).tolist()
    for step, value in enumerate(history, start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        after(averaged, step)
    place, bias = model.weight.data_ptr(), model.bias.item()
    for _ in range(2):  # what is looked at does not change it
        with averaged.in_place():
            assert model.weight.item() == pytest.approx(averaged_over(history), rel=1e-5)
            assert model.weight.data_ptr() == place
        assert model.weight.item() == pytest.approx(history[-1])
    assert model.bias.item() == bias


def test_half_of_it_is_the_last_eighth_of_the_updates() -> None:
    shares = [averaged_over([0.0] * before + [1.0] * (800 - before)) for before in (700, 0)]
    assert shares == [pytest.approx(0.5, abs=0.02), 1.0]


class Watched(TrainerCallback):
    """The trained weights after each update, and what an evaluation saw."""

    def __init__(self, name: str) -> None:
        self.name, self.after, self.evaluated = name, [], []

    def _weight(self, model: nn.Module) -> np.ndarray:
        return dict(model.named_parameters())[self.name].detach().flatten()[LAST].numpy().copy()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control
        self.after.append(self._weight(kwargs["model"]))

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control
        self.evaluated.append((state.global_step, self._weight(kwargs["model"])))


@pytest.mark.e2e
@pytest.mark.parametrize("schedule", ["auto", "cosine"])
def test_a_rung_by_the_clock_is_evaluated_and_kept_as_its_average(
    tmp_path: Path, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"), train={"schedule": schedule, "precision": "fp32"})
    model, _ = adapted(recipe)
    name = next(name for name, weight in model.named_parameters() if "lora_B" in name and weight.requires_grad)
    watched = Watched(name)
    from hf_finetune.training import fit as fits

    own = fits._Watch.callbacks
    monkeypatch.setattr(fits._Watch, "callbacks", lambda *each: [*own(*each), watched])
    model, fitted = run(recipe, tiny_plan(), tmp_path / "run", model=model, pace=Pace(12, evaluations=3))
    assert [step for step, _ in watched.evaluated] == [4, 8, 12]
    for step, seen in watched.evaluated:
        history = np.array(watched.after[:step])
        wanted = [averaged_over(each.tolist()) for each in history.T] if schedule == "auto" else history[-1]
        np.testing.assert_allclose(seen, wanted, rtol=1e-4, atol=1e-7)
    best = next(seen for step, seen in watched.evaluated if step == fitted.best_step)
    np.testing.assert_array_equal(trained(model)[name].flatten()[LAST].numpy(), best)
    assert fitted.evaluations == 3


@pytest.mark.e2e
def test_a_rung_ends_after_evaluations_that_are_no_better(tmp_path: Path) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"), train={"learning_rate": 1e-12, "precision": "fp32"})
    pace = Pace(40, evaluations=20, patience=3)
    _, fitted = run(recipe, tiny_plan(rate=1e-12), tmp_path / "run", pace=pace)
    assert fitted.evaluations == fitted.best_step // 2 + 3
    assert fitted.step == fitted.best_step + 6 < 40


def test_statistics_of_other_weights_are_not_averaged(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    assert not may_average(model, [])
    assert may_average(model, [model[1]])
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"))
    for adapter in (None, Full()):
        each, _ = adapted(recipe, adapter)  # pyright: ignore[reportArgumentType]
        assert may_average(each, frozen_norms(each))
