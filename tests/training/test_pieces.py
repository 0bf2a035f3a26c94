"""Pieces of an update: of any size, weighted rightly, and never of a single image where batch norms train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.errors import MachineError
from hf_finetune.training.pieces import cut
from hf_finetune.types import Decision
from tests.training.rows import SIDE, MemoryRows, adapted, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import assert_same, run, trained
from tests.training.test_fit import Normed, limited


def sizes(count: int, size: int, least: int = 1) -> list[int]:
    rows = torch.arange(count)
    pieces = cut({"labels": rows, "rows": rows}, size, least)
    assert torch.equal(torch.cat([piece["rows"] for piece in pieces]), rows)
    return [len(piece["labels"]) for piece in pieces]


def test_the_last_piece_may_be_shorter() -> None:
    assert sizes(47, 24) == [24, 23]
    assert sizes(33, 16) == [16, 16, 1]
    assert sizes(8, 16) == [8]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(33, 16, [11, 11, 11]), (47, 24, [24, 23]), (7, 2, [3, 2, 2]), (3, 2, [3]), (4, 1, [2, 2]), (1, 4, [1])],
)
def test_no_piece_is_of_one_image_where_two_are_the_least(count: int, size: int, expected: list[int]) -> None:
    assert sizes(count, size, 2) == expected


@pytest.mark.e2e
def test_an_update_of_a_prime_number_has_the_whole_ones_gradient(tmp_path: Path) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "base"), task={"class_weights": "auto"})
    rows = MemoryRows(100, SIDE + 2)
    rows.labels[:40] = 0  # unequal weights of the pieces
    found = []
    for micro in (47, 24):
        plan = replace(tiny_plan(batch=47, micro=micro, steps=2), accumulation=Decision(1, ""))
        found.append(trained(run(recipe, plan, tmp_path / str(micro), train=rows)[0]))
    assert_same(*found, atol=2e-5)  # of updates of up to 6e-3


@pytest.mark.e2e
@pytest.mark.parametrize(("batch", "micro"), [(33, 16), (7, 2)])
def test_a_batch_norm_that_trains_sees_several_images(tmp_path: Path, batch: int, micro: int) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "base"), adapter={"kind": "full"})
    model: Any = adapted(recipe)[0]
    model.vit.layers[1] = Normed(model.vit.layers[1], 64)
    seen: set[int] = set()

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            seen.add(len(inputs[0]))

    model.vit.layers[1].register_forward_pre_hook(note)
    plan = replace(tiny_plan(batch=batch, micro=micro, steps=1), accumulation=Decision(1, ""))
    run(recipe, plan, tmp_path / "run", model=model)
    assert seen == {len(piece["labels"]) for piece in cut({"labels": torch.zeros(batch)}, micro, 2)}
    assert min(seen) >= 2


@pytest.mark.e2e
def test_a_lack_of_memory_ends_before_pieces_of_one_image(tmp_path: Path) -> None:
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "base"))
    model: Any = adapted(recipe)[0]
    layers = model.get_base_model().vit.layers
    layers[1] = Normed(layers[1], 64)
    limited(model, 1)
    with pytest.raises(MachineError, match="Out of memory with two images at a time, and batch norms need two"):
        run(recipe, tiny_plan(batch=8, micro=8, steps=1), tmp_path / "run", model=model)
