"""Checkpoints of full fine-tuning hold every weight, and all of them come back: for the best weights, and to resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.errors import TrainingError
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.run.checkpoints import newest_whole
from tests.training.rows import SIDE, MemoryRows, adapted, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import assert_same, run, trained

pytestmark = pytest.mark.e2e
# transformers writes a ViT under the names of its version 4, and a timm model without its wrapper's prefix.


def model_of(recipe: Recipe, kind: str) -> nn.Module:
    model: Any = adapted(recipe)[0]
    if kind == "shared":  # one module in two places, as in timm's CoaT
        model.vit.layers[1] = model.vit.layers[0]
    return model


def case(folder: Path) -> Recipe:
    train = {"precision": "fp32", "best_by": "loss", "effective_batch_size": 32}
    return tiny_recipe(save_tiny_vit(folder), adapter={"kind": "full"}, train=train)


def validation_loss(model: nn.Module) -> float:
    rows = MemoryRows(23, SIDE, seed=1)
    with torch.no_grad():
        logits = model.eval()(pixel_values=torch.from_numpy(rows.pixels).float() / 127.5 - 1).logits
    return float(nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels)))


@pytest.mark.parametrize("kind", ["transformers", "shared"])
def test_the_best_weights_come_back(kind: str, tmp_path: Path) -> None:
    recipe = case(tmp_path / "base")
    model, fitted = run(recipe, tiny_plan(steps=5, rate=0.1), tmp_path / "run", model=model_of(recipe, kind))
    losses = {entry["step"]: entry["eval_loss"] for entry in fitted.log if "eval_loss" in entry}
    assert fitted.best_step == min(losses, key=lambda step: losses[step]) < max(losses)  # or nothing had to come back
    assert validation_loss(model) == pytest.approx(losses[fitted.best_step], abs=1e-4)


@pytest.mark.parametrize("kind", ["transformers", "shared"])
def test_a_resumed_run_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    recipe = case(tmp_path / "base")
    whole, _ = run(recipe, tiny_plan(steps=3), tmp_path / "run", model=model_of(recipe, kind))
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = newest_whole(checkpoints)
    assert newest is not None
    (newest / "sealed.json").unlink()
    earlier = newest_whole(checkpoints)
    assert earlier is not None and earlier.name < newest.name
    model = model_of(recipe, kind)
    again, _ = run(recipe, tiny_plan(steps=3), tmp_path / "run", model=model, resume=earlier)
    assert_same(trained(whole), trained(again), atol=1e-5)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "base"), adapter={"kind": "full"})
    model, _ = run(recipe, tiny_plan(steps=2), tmp_path / "run")
    checkpoint = newest_whole(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    model.save_pretrained(checkpoint)  # pyright: ignore[reportCallIssue]  as an earlier version wrote it
    with pytest.raises(TrainingError, match=r"the checkpoint lacks 32 weights of the model: vit\.layers\.0"):
        run(recipe, tiny_plan(steps=2), tmp_path / "run", resume=checkpoint)
