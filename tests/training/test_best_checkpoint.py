"""The best checkpoint is checked before its weights are loaded, and before a run that goes on counts on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.run.checkpoints import newest_whole
from tests.training.rows import SIDE, MemoryRows, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import run

pytestmark = pytest.mark.e2e
UPDATES = 12
PLAN = tiny_plan(steps=UPDATES, rate=0.05)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    train = {"precision": "fp32", "best_by": "loss", "effective_batch_size": 32}
    return tiny_recipe(save_tiny_vit(tmp_path_factory.mktemp("tiny")), train=train)


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


def test_a_damaged_best_checkpoint_is_not_loaded_unnoticed(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, fitted = run(recipe, PLAN, tmp_path / "sound")
    losses = {entry["step"]: entry["eval_loss"] for entry in fitted.log if "eval_loss" in entry}
    assert fitted.best_step < 12  # else nothing here could be seen

    class Flip(TrainerCallback):
        """One bit of the best weights, before the last update."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            weights = tmp_path / "flipped" / "checkpoints" / f"checkpoint-{fitted.best_step}"
            if state.global_step == 11:
                flip_bit(next(weights.glob("*.safetensors")))

    model, found = run(recipe, PLAN, tmp_path / "flipped", callbacks=[Flip()])
    assert f"checkpoint-{fitted.best_step} is incomplete or damaged" in caplog.text
    assert "the weights after update 12 are the result" in caplog.text
    assert (found.best_step, found.metrics["loss"]) == (12, pytest.approx(losses[12], abs=1e-5))
    rows = MemoryRows(23, SIDE, seed=1)
    with torch.no_grad():
        logits = model.eval()(pixel_values=torch.from_numpy(rows.pixels).float() / 127.5 - 1).logits
    assert float(nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels))) == pytest.approx(
        losses[12], abs=1e-5
    )


def test_a_run_that_goes_on_without_its_best_checkpoint_says_so_and_takes_the_next(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, whole = run(recipe, PLAN, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = newest_whole(checkpoints)
    assert newest is not None and newest.name == "checkpoint-12" and whole.best_step < 12
    best = checkpoints / f"checkpoint-{whole.best_step}"
    flip_bit(next(best.glob("*.safetensors")))
    _, again = run(recipe, PLAN, tmp_path / "run", resume=newest)
    assert f"{best.name}, the best so far, is lost: checkpoint-12 counts as the best now" in caplog.text
    losses = {entry["step"]: entry["eval_loss"] for entry in whole.log if "eval_loss" in entry}
    assert (again.best_step, again.metrics["loss"]) == (12, pytest.approx(losses[12], abs=1e-5))
