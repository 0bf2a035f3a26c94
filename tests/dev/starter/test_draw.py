from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from dev.starter import draw
from dev.starter.draw import LETTERS, SHAPES, TEXTURES, Drawings, _glyph, _shape_mask, _texture_mask
from dev.starter.strokes import invent, write


def test_no_letter_is_a_digit_or_any_other_number():
    assert len(LETTERS) > 50
    assert [letter for letter in LETTERS if unicodedata.category(letter).startswith("N")] == []
    assert [letter for letter in LETTERS if unicodedata.numeric(letter, None) is not None] == []


def test_every_letter_is_in_the_font_and_no_two_look_the_same():
    absent = _glyph("\U000fffff").tobytes()
    drawn = [(_glyph(letter).size, _glyph(letter).tobytes()) for letter in LETTERS]
    assert all(max(np.frombuffer(pixels, np.uint8)) == 255 and pixels != absent for _, pixels in drawn)
    assert len(set(drawn)) == len(LETTERS)


def test_an_image_depends_on_seed_and_number_only():
    pixels, labels = Drawings(3, characters=20).batch(0, 64)
    assert pixels.shape == (64, 3, 32, 32)
    assert pixels.dtype == np.uint8
    draw._character.cache_clear()
    draw._glyph.cache_clear()
    parts = [Drawings(3, characters=20).batch(first, 16) for first in (48, 0, 32, 16)]
    ordered = np.concatenate([parts[place][0] for place in (1, 3, 2, 0)])
    assert np.array_equal(pixels, ordered)
    assert np.array_equal(labels, np.concatenate([parts[place][1] for place in (1, 3, 2, 0)]))
    assert not np.array_equal(pixels, Drawings(4, characters=20).batch(0, 64)[0])


def test_every_class_has_a_name_and_is_drawn_and_no_image_is_empty():
    drawings = Drawings(0, characters=10)
    pixels, labels = drawings.batch(0, 6000)
    assert len(set(drawings.names)) == len(drawings.names)
    assert set(labels) == set(range(len(drawings.names)))
    spread = pixels.reshape(len(pixels), -1).std(axis=1)
    assert (spread > 2).mean() > 0.999


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_ink_and_ground(shape: str):
    covered = np.asarray(_shape_mask(shape, np.random.default_rng(0))).mean() / 255
    assert 0.02 < covered < 0.95


def test_textures_differ_from_one_another():
    drawn = {_texture_mask(texture, np.random.default_rng(5)).tobytes() for texture in TEXTURES}
    assert len(drawn) == len(TEXTURES)


def test_a_character_keeps_its_plan_and_never_its_exact_path():
    character = invent(7, 12)
    assert all(np.array_equal(a, b) for a, b in zip(character.segments, invent(7, 12).segments, strict=True))
    rng = np.random.default_rng(0)
    first, second = write(character, rng, 0.2), write(character, rng, 0.2)
    assert [path.shape for path in first] == [path.shape for path in second]
    assert not np.allclose(first[0], second[0])
    for paths in (first, second):
        points = np.abs(np.concatenate(paths))
        assert points.max() == pytest.approx(1.0)
