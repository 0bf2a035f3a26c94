"""The order of training rows: every row once, or as many of each class, by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_finetune.training.objective import Batch
from hf_finetune.training.order import DrawnUpdates, balanced_order
from tests.training.rows import SIDE, MemoryRows, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import assert_same, run, trained

CLASSES = np.repeat([0, 1, 2], [90, 23, 4])


class Numbers:
    """Rows that say their indices."""

    def __len__(self) -> int:
        return len(CLASSES)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return {"rows": torch.tensor(list(indices))}


def epoch(number: int, classes: np.ndarray | None, seed: int = 0, batch: int = 10) -> np.ndarray:
    """All indices of an epoch, walked in two parts of unequal size."""
    updates = DrawnUpdates(Numbers(), batch, seed, classes)
    updates.set_epoch(number)
    middle = len(updates) // 3
    parts = [updates.__getitems__(range(middle)), updates.__getitems__(range(middle, len(updates)))]
    return torch.cat([part["rows"] for part in parts]).numpy()


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_an_epoch_has_whole_updates_in_an_order_of_seed_and_epoch_alone(classes: np.ndarray | None) -> None:
    first = epoch(2, classes)
    assert len(first) == 110
    np.testing.assert_array_equal(epoch(2, classes), first)
    assert not np.array_equal(epoch(3, classes), first)
    assert not np.array_equal(epoch(2, classes, seed=1), first)


def test_shuffled_every_row_is_drawn_once() -> None:
    assert sorted(epoch(0, None, batch=1)) == list(range(len(CLASSES)))


@pytest.mark.parametrize("sizes", [(90, 23, 4), (1, 1, 98), (50, 50), (7,), (5, 0, 6)])
def test_balanced_each_class_is_drawn_as_often_and_within_it_each_row(sizes: tuple[int, ...]) -> None:
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = len(classes)
    drawn = balanced_order(classes, np.random.default_rng(3))
    assert len(drawn) == rows
    assert len(np.unique(drawn)) == rows  # every repetition of a row is an index of its own
    there = [label for label, size in enumerate(sizes) if size]
    of_class = np.bincount(classes[drawn % rows], minlength=len(sizes))[there]
    assert of_class.max() - of_class.min() <= 1
    for label in there:
        times = np.bincount(drawn % rows, minlength=rows)[classes == label]
        assert times.max() - times.min() <= 1


def test_balanced_frequent_classes_give_other_rows_in_every_epoch() -> None:
    seen = [{row for row in epoch(number, CLASSES) if row < 90} for number in range(12)]
    assert all(len(each) < 45 for each in seen)
    assert len(set.union(*seen)) > 85


@pytest.mark.e2e
def test_a_balanced_run_that_is_resumed_inside_an_epoch_ends_with_the_same_weights(tmp_path: Path) -> None:
    rows = MemoryRows(100, SIDE + 2)
    keep = np.flatnonzero((rows.labels != 2) | (np.arange(100) % 10 == 2))
    rows.labels, rows.pixels, rows.sizes = rows.labels[keep], rows.pixels[keep], rows.sizes[keep]
    rows.names = [rows.names[number] for number in keep]
    train = {"precision": "fp32", "effective_batch_size": 16, "evaluations": 3, "seed": 3}
    recipe = tiny_recipe(save_tiny_vit(tmp_path / "tiny"), train={**train, "sampler": "balanced"})
    plan = tiny_plan(batch=16, micro=16, steps=9)
    whole, fitted = run(recipe, plan, tmp_path / "whole", train=rows)
    resume = tmp_path / "whole" / "checkpoints" / "checkpoint-3"
    assert resume.is_dir()
    again, resumed = run(recipe, plan, tmp_path / "again", train=rows, resume=resume)
    assert (fitted.step, resumed.step) == (9, 9)
    assert_same(trained(whole), trained(again), atol=1e-6)
    shuffled, _ = run(tiny_recipe(tmp_path / "tiny", train=train), plan, tmp_path / "shuffled", train=rows)
    with pytest.raises(AssertionError):
        assert_same(trained(whole), trained(shuffled), atol=1e-6)
