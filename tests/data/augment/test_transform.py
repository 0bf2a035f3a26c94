"""A transform of one's own: image by image, the same for a row however the batch is cut."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import TrainRows, prepare
from hf_finetune.data.augment.transform import transformed
from hf_finetune.data.config import Augment
from hf_finetune.errors import TrainingError
from tests.training.rows import PREPROCESS, SIDE, MemoryRows

PLAIN = Augment(crop_scale=(1.0, 1.0), flip=0.0)


def noisy(image: torch.Tensor) -> torch.Tensor:
    """Noise of all three kinds of random numbers that transforms use."""
    shift = random.randrange(8) + int(np.random.randint(8))
    return (image.int() + torch.randint(0, 8, image.shape) + shift).clamp(0, 255).to(torch.uint8)


def batch_of(rows: list[int], epoch: int, transform=noisy) -> torch.Tensor:
    data = TrainRows(MemoryRows(40, SIDE + 2), Augmenter(PLAIN, PREPROCESS, SIDE + 2, transform), seed=3)
    data.set_epoch(epoch)
    return prepare(data.__getitems__(rows), data.augmenter)[0]


def test_a_rows_draw_depends_on_row_and_epoch_alone() -> None:
    whole = batch_of([5, 6, 7, 8], 2)
    torch.testing.assert_close(batch_of([7], 2)[0], whole[2])
    torch.testing.assert_close(batch_of([8, 7], 2)[1], whole[2])
    assert not torch.equal(batch_of([7], 3)[0], whole[2])
    assert not torch.equal(whole[0] - batch_of([5], 2, None)[0], whole[1] - batch_of([6], 2, None)[0])


def test_it_gets_whole_images_of_the_backbones_size_and_normalising_comes_after() -> None:
    seen: list[torch.Tensor] = []

    def watch(image: torch.Tensor) -> torch.Tensor:
        seen.append(image.clone())
        return 255 - image

    turned, plain = batch_of([0, 1], 0, watch), batch_of([0, 1], 0, None)
    assert [(image.dtype, tuple(image.shape)) for image in seen] == [(torch.uint8, (3, SIDE, SIDE))] * 2
    # Half a grey level of rounding is 1/255 of the normalised range of 2.
    torch.testing.assert_close(turned, -plain, atol=1 / 255 + 1e-6, rtol=0)


def test_other_random_numbers_go_on_as_if_nothing_had_been_drawn() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    wanted = draws()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    batch_of([1, 2, 3], 0)
    assert draws() == wanted


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"uint8 \[3, 4, 4\] is expected .* found torch.uint8 \[3, 2, 4\]"):
        transformed(torch.zeros(1, 3, 4, 4), torch.zeros(1), lambda image: image[:, :2])
