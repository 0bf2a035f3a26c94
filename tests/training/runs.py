"""One rung trained on rows in memory, and its weights compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.data.augment.dataset import EvalRows
from hf_finetune.ladder.trained.full import on_augmented_images
from hf_finetune.ladder.trained.rung import TrainedRung
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.run.checkpoints import is_sound, seal_and_thin_out
from hf_finetune.training.fit import Fit, FitFolders
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.training.pace import Pace
from hf_finetune.types import PixelRows, Plan, Split
from tests.training.rows import SIDE, MemoryRows, adapted, context_of


def run(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    *,
    model: nn.Module | None = None,
    train: MemoryRows | None = None,
    resume: Path | None = None,
    pace: Pace | None = None,
    dropper: TokenDropper | None = None,
    change: Callable[[Any], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[nn.Module, Fit]:
    """Train a rung as the ladder does; `change` gets the objective before that."""
    folder.mkdir(exist_ok=True)
    model = model or adapted(recipe)[0]
    rows: dict[Split, PixelRows] = {"train": train or MemoryRows(100, SIDE + 2), "validation": MemoryRows(23, SIDE, 1)}

    class Rung(TrainedRung):
        """Augmented images, with the dropper of the test."""

        learning_rate = plan.learning_rate

        @contextmanager
        def _training(self, share: float) -> Iterator[tuple[Objective, BatchRows]]:
            del share  # the dropper is the test's
            objective, batches = on_augmented_images(self._context, self._rows["train"], dropper)
            if change is not None:
                change(objective)
            yield objective, batches

    folders = FitFolders(folder / "checkpoints", folder / "metrics.jsonl", seal_and_thin_out, is_sound, resume)
    context = context_of(recipe, plan)
    context = replace(context, extensions=replace(context.extensions, callbacks=callbacks))
    rung = Rung(model, context, rows, EvalRows(rows["validation"]))
    return model, rung.run(pace, 1.0, folders)


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float) -> None:
    assert a.keys() == b.keys()
    assert len(a) > 10
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=atol, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
