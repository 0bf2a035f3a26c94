"""Normalised pixels, made images for people again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import Preprocess

ONE = Preprocess((), 4, 5, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255, 0.0, False, 3, "a test")


@pytest.mark.parametrize(
    "preprocess", [ONE, replace(ONE, bgr=True), replace(ONE, scale=1 / 127.5, offset=-1.0, mean=(0,) * 3, std=(1,) * 3)]
)
def test_what_was_normalised_is_what_it_was(preprocess: Preprocess) -> None:
    pixels = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8)
    normaliser = Normaliser(preprocess)
    assert torch.equal(normaliser.undone(normaliser({"pixel_values": pixels})), pixels)


def test_what_lies_beyond_black_and_white_is_black_and_white() -> None:
    assert Normaliser(ONE).undone(torch.full((1, 3, 1, 2), 99.0)).unique().tolist() == [255]
