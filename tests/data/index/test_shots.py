"""`data.shots`: the training rows of a k-shot run, and that nothing else changes with them."""

from __future__ import annotations

from collections import Counter

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.errors import RecipeError
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import Index, Split


def names(index: Index, split: Split) -> list[str]:
    return [row.name for row in index.splits[split]]


def test_validation_and_test_are_the_same_for_any_number_of_shots() -> None:
    whole = scan(Data(), seed=3)
    for shots in (1, 5):
        few = scan(Data(shots=shots), seed=3)
        assert Counter(row.label for row in few.splits["train"]) == dict.fromkeys(range(10), shots)
        assert set(names(few, "train")) < set(names(whole, "train"))
        for split in ("validation", "test"):
            assert names(few, split) == names(whole, split)


def test_another_seed_draws_other_shots() -> None:
    one, other = (set(names(scan(Data(shots=5), seed=seed), "train")) for seed in (0, 1))
    assert len(one & other) < 10


def test_no_shots_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="shots"):
        load_recipe({}, ["data.shots=0"])
