"""Pieces captured as CUDA graphs train as pieces run one kernel after the other do; what cannot be captured runs so."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import Decision
from tests.training.rows import SIDE, MemoryRows, adapted, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import assert_same, run, trained

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("tiny"))


def weights_after(
    recipe: Recipe,
    folder: Path,
    *,
    model: nn.Module | None = None,
    dropper: TokenDropper | None = None,
    change: Callable[[Any], None] | None = None,
    **sizes: int,
) -> dict[str, torch.Tensor]:
    """Train on the GPU; the trained weights."""
    rows = MemoryRows(100, SIDE + 2)
    rows.labels[:40] = 0  # unequal classes, so that class weights matter
    plan = replace(tiny_plan(**{"steps": 12, **sizes}), device=Decision("cuda", "test"))
    return trained(run(recipe, plan, folder, model=model, train=rows, dropper=dropper, change=change)[0])


def both(tiny: Path, tmp_path: Path, keep: float = 1.0, **options: Any) -> list[dict[str, torch.Tensor]]:
    """With graphs and without."""
    found = []
    for graphs in (True, False):
        train = {"precision": "fp32", "learning_rate": 0.003, "effective_batch_size": 32, "cuda_graphs": graphs}
        recipe = tiny_recipe(tiny, task={"class_weights": "auto"}, train=train)
        model, _ = adapted(recipe)
        base: Any = model.get_base_model()  # pyright: ignore[reportCallIssue]
        dropper = TokenDropper(keep, 1, (SIDE // 4) ** 2) if keep < 1 else None
        with nullcontext() if dropper is None else dropper.before(base.vit.layers[0]):
            found.append(weights_after(recipe, tmp_path / str(graphs), model=model, dropper=dropper, **options))
    return found


@pytest.mark.parametrize(("micro", "keep"), [(32, 1.0), (8, 1.0), (32, 0.5)])
def test_captured_updates_give_the_same_weights(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, micro: int, keep: float
) -> None:
    with caplog.at_level(logging.DEBUG, "hf_finetune"):
        assert_same(*both(tiny, tmp_path, keep, micro=micro), atol=2e-4)
    assert "run as one CUDA graph" in caplog.text


def test_out_of_memory_after_a_capture_replays_the_update(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_once(objective: Any) -> None:
        whole, calls = objective.prepare, itertools.count(1)

        def prepare(batch: Any) -> Any:
            if next(calls) == 30:  # an update has four pieces: its second one, long after the fourth was captured
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return whole(batch)

        objective.prepare = prepare

    with caplog.at_level(logging.DEBUG, "hf_finetune"):
        assert_same(*both(tiny, tmp_path, micro=8, change=fail_once), atol=2e-4)
    assert "run as one CUDA graph" in caplog.text
    assert caplog.text.count("the update is replayed") == 2


class Asks(nn.Module):
    """A block that looks at its input on the host, as a capture cannot."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.looked = inner, 0

    def forward(self, hidden: torch.Tensor, *args: object, **kwargs: object) -> object:
        self.looked += bool(hidden.isfinite().all())
        return self.inner(hidden, *args, **kwargs)


def test_what_waits_for_the_gpu_is_not_captured_and_trains(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tiny_recipe(tiny)
    model, _ = adapted(recipe)
    base: Any = model.get_base_model()  # pyright: ignore[reportCallIssue]
    base.vit.layers[1] = asks = Asks(base.vit.layers[1])
    with caplog.at_level(logging.DEBUG, "hf_finetune"):
        weights_after(recipe, tmp_path, model=model)
    assert "not as one CUDA graph" in caplog.text
    assert asks.looked > 12
    torch.rand(3, device="cuda")  # random numbers are not left in capture


def test_dropout_is_captured_and_draws_anew(tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = tiny_recipe(tiny, adapter={"kind": "lora", "dropout": 0.3})
    with caplog.at_level(logging.DEBUG, "hf_finetune"):
        weights_after(recipe, tmp_path)
    assert "run as one CUDA graph" in caplog.text
    assert torch.rand(9, device="cuda").unique().numel() == 9
