"""Copies are found whatever was done to them, and what is only alike is no copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_finetune.doctor.alignment import lay_over
from hf_finetune.doctor.copies import equal_pictures, near_pairs
from hf_finetune.doctor.looks import SIDE, look_at, small_grey
from tests.doctor.pictures import Rows, copy, picture, pixels

KINDS = ("resized", "re-encoded", "cropped", "mirrored")


@pytest.fixture(scope="module")
def planted() -> tuple[Rows, set[tuple[int, int]]]:
    """60 pictures and 40 copies of the first 40."""
    random = np.random.default_rng(0)
    images = [picture(number) for number in range(60)]
    copies = [copy(images[number], KINDS[number % 4], random) for number in range(40)]
    return Rows(pixels([*images, *copies])), {(number, 60 + number) for number in range(40)}


def test_planted_copies_are_found_and_nothing_else(planted: tuple[Rows, set[tuple[int, int]]]) -> None:
    rows, wanted = planted
    pairs = near_pairs(look_at(rows).grey, rows.gather, np.zeros(len(rows), bool))
    found = {(pair.first, pair.second) for pair in pairs}
    assert len(found & wanted) >= 0.9 * len(wanted)
    assert len(found & wanted) >= 0.95 * len(found)
    mirrored = {(pair.first, pair.second) for pair in pairs if pair.mirrored}
    assert mirrored == {pair for pair in found if pair[0] % 4 == 3}


def test_pictures_in_many_blocks_give_the_same_pairs(
    planted: tuple[Rows, set[tuple[int, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = planted
    grey, nothing = look_at(rows).grey, np.zeros(len(rows), bool)
    whole = near_pairs(grey, rows.gather, nothing)
    monkeypatch.setattr("hf_finetune.doctor.copies._BLOCK_ROWS", 17)
    monkeypatch.setattr("hf_finetune.doctor.copies._BLOCK_COLUMNS", 23)
    monkeypatch.setattr("hf_finetune.doctor.copies._PAIRS_AT_ONCE", 5)
    parts = near_pairs(grey, rows.gather, nothing)
    assert [pair[:2] for pair in parts] == [pair[:2] for pair in whole]
    assert np.allclose([pair.score for pair in parts], [pair.score for pair in whole], atol=1e-4)


def test_equal_pictures_are_told_from_nearly_equal_ones() -> None:
    images = pixels([picture(1), picture(2), picture(1), picture(3), picture(1)])
    images[4, 0, 80, 80] ^= 1
    rows = Rows(images)
    assert equal_pictures(look_at(rows).grey, rows.gather) == [[0, 2]]
    assert [pair[:2] for pair in near_pairs(look_at(rows).grey, rows.gather, np.zeros(5, bool))] != []


def test_rows_that_are_left_out_and_pictures_of_one_colour_are_in_no_pair() -> None:
    blank = np.full((4, 3, 160, 160), 200, np.uint8)
    blank[1:] += np.random.default_rng(0).integers(0, 2, (3, 3, 160, 160), dtype=np.uint8)
    rows = Rows(np.concatenate([blank, pixels([picture(1), copy(picture(1), "mirrored", np.random.default_rng(0))])]))
    grey, left_out = look_at(rows).grey, np.zeros(6, bool)
    assert [pair[:2] for pair in near_pairs(grey, rows.gather, left_out)] == [(4, 5)]
    left_out[5] = True
    assert near_pairs(grey, rows.gather, left_out) == []
    assert near_pairs(grey[:1], rows.gather, left_out[:1]) == []
    assert near_pairs(grey[:0], rows.gather, left_out[:0]) == []


def test_a_known_map_is_found() -> None:
    """The second picture is the first, 6 % larger and moved."""
    wanted = torch.tensor([[[0.94, 0.0, 0.03], [0.0, 0.94, -0.02]]])
    second = small_grey(pixels([picture(5)]), 96)
    places = torch.nn.functional.affine_grid(wanted, [1, 1, 96, 96], align_corners=False)
    first = torch.nn.functional.grid_sample(second[:, None], places, align_corners=False)[:, 0]
    found = lay_over(first, second, None, ((24, 6), (48, 4), (96, 4)))
    assert torch.allclose(found.map, wanted, atol=3e-3)
    assert float(found.edges) > 0.98 and float(found.alike) > 0.99
    assert abs(float(found.change) - 0.06) < 3e-3
    other = lay_over(first, small_grey(pixels([picture(6)]), 96), None, ((24, 6), (48, 4), (96, 4)))
    assert float(other.edges) < 0.6


def test_looks_say_how_plain_and_how_coloured_pictures_are() -> None:
    grey = picture(3).convert("L").convert("RGB")
    images = pixels([picture(3), grey])
    images = np.concatenate([images, np.full((1, 3, 160, 160), 255, np.uint8)])
    looks = look_at(Rows(images))
    assert looks.grey.shape == (3, SIDE, SIDE)
    assert looks.entropy[0] > looks.entropy[1] > 2 and looks.entropy[2] == 0
    assert looks.colour[0] > 10 and looks.colour[1] < 1
    assert abs(int(looks.grey[0].mean()) - images[0].mean()) < 3
