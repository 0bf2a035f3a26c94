"""How many patches may be left out: as many as leave the head right."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.labels import Labels
from hf_finetune.ladder.trained.cached import on_kept_states
from hf_finetune.ladder.trained.patches import Parts, least_share, right_answers
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.training.objective import Batch
from tests.training.rows import context_of, tiny_plan

PATCHES, CLASSES, ROWS = 64, 4, 400


class States:
    """Kept states [N, 1 + PATCHES, CLASSES]: `marked` patches of each image carry its class, the others nothing."""

    def __init__(self, marked: int) -> None:
        self.labels = torch.arange(ROWS) % CLASSES
        self.sizes, self.names = torch.zeros(ROWS, 2), [str(row) for row in range(ROWS)]
        self.states = torch.zeros(ROWS, 1 + PATCHES, CLASSES)
        marks = nn.functional.one_hot(self.labels, CLASSES).float()
        self.states[:, 1 : 1 + marked] = marks[:, None, :]

    def __len__(self) -> int:
        return ROWS

    def set_epoch(self, epoch: int) -> None:
        pass

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        where = torch.as_tensor(indices)
        return {"pixel_values": self.states[where], "labels": self.labels[where], "rows": where}


class Sum(nn.Module):
    """Adds up the tokens; an image without a marked patch is taken for the last class."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 0.5]))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=pixel_values.sum(dim=1) + self.bias)


def parts_of(marked: int):
    rows = States(marked)

    def parts(share: float) -> Parts:
        dropper = None if share == 1 else TokenDropper(share, 1, PATCHES)
        context = context_of(load_recipe({}), tiny_plan(), labels=Labels(tuple("abcd")))
        return on_kept_states(context, rows, dropper)  # pyright: ignore[reportArgumentType]

    return parts


@pytest.mark.parametrize(
    ("marked", "share"),
    [
        (PATCHES, 0.25),  # every patch says it
        (3, 0.5),  # one of three is kept in 89 % of the images at a half, in 58 % at a quarter
        (1, 1.0),  # kept in half of the images at a half
    ],
)
def test_the_least_share_is_the_smallest_with_which_the_head_is_still_right(marked: int, share: float) -> None:
    assert least_share(Sum(), parts_of(marked), (0.25, 0.5), 16, None) == share


def test_right_answers_are_counted_over_all_pieces_and_train_nothing() -> None:
    model = Sum()
    objective, rows = parts_of(1)(0.5)
    counts = {right_answers(model, objective, rows, piece, None) for piece in (7, 64)}
    assert len(counts) == 1 and 0.5 < counts.pop() < 0.8  # half by its patch, and a quarter of the rest by the bias
    assert model.bias.grad is None
    assert right_answers(model, *parts_of(1)(1.0), 7, None) == 1.0
