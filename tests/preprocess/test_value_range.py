"""High-bit grey: one scale for all images, the scale that is chosen, and the same pixels by the card's own lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_finetune.preprocess.pixels import UnreadableImage, look_at, open_rgb, open_sized
from hf_finetune.preprocess.value_range import Seen, choose, to_grey8
from hf_finetune.report.value_range import convert_lines, differs_from_stock
from hf_finetune.types import ValueRange
from tests.data.store.samples import MAX_PIXELS, encode

WAYS = {
    "16-bit PNG": (np.uint16, "PNG"),
    "16-bit TIFF": (np.uint16, "TIFF"),
    "16-bit PGM": (np.uint16, "PPM"),
    "int32 TIFF": (np.int32, "TIFF"),
    "float TIFF": (np.float32, "TIFF"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value_range", [(0.0, 255.0), (0.0, 4095.0), (0.0, 65535.0), (100.0, 1100.0)])
def test_a_value_gets_the_same_grey_in_every_image(way: str, value_range: ValueRange) -> None:
    dtype, kind = WAYS[way]
    low, high = value_range
    ramp = np.linspace(low, high, 256).round()
    for values in (ramp, ramp[:40], ramp[200:]):  # alone, a dark or a light part is no other picture
        data = encode(Image.fromarray(values.astype(dtype).reshape(2, -1)), kind)
        found = np.asarray(open_rgb(data, MAX_PIXELS, value_range))
        expected = np.rint((values - low) * 255 / (high - low))
        assert found[..., 0].ravel().tolist() == expected.tolist()
        assert (found[..., 0] == found[..., 2]).all()


def test_values_beyond_the_range_are_clipped_and_counted() -> None:
    values = np.array([[-5, 0, 50, 100, 101, 3000]], np.int32)
    grey, clipped = to_grey8(values, (0.0, 100.0))
    assert (grey.tolist(), clipped) == ([[0, 0, 128, 255, 255, 255]], 3)
    opened = open_sized(encode(Image.fromarray(values), "TIFF"), MAX_PIXELS, value_range=(0.0, 100.0))
    assert opened.clipped == 3
    assert open_sized(encode(Image.new("L", (9, 9), 200)), MAX_PIXELS, value_range=(0.0, 100.0)).clipped == 0
    many = np.arange(5_000_000, dtype=np.uint16).reshape(1000, -1)  # more than is scaled at once
    assert np.array_equal(to_grey8(many, (0.0, 65535.0))[0], np.rint(many / 257))


def test_without_a_scale_high_bit_grey_is_refused_and_8_bit_is_not_touched() -> None:
    for dtype, kind, words in ((np.uint16, "PNG", "16-bit"), (np.int32, "TIFF", "32-bit"), (np.float32, "TIFF", "flo")):
        data = encode(Image.fromarray(np.full((4, 4), 7, dtype)), kind)
        with pytest.raises(UnreadableImage, match=f"{words}.* grey, and no value of it is known to be white"):
            open_rgb(data, MAX_PIXELS)
    with pytest.raises(UnreadableImage, match="not finite"):
        open_rgb(encode(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF"), MAX_PIXELS, (0.0, 1.0))
    grey = encode(Image.new("L", (3, 3), 77))
    assert np.asarray(open_rgb(grey, MAX_PIXELS, (0.0, 100.0))).max() == 77


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, [0, 255], (0, 255)),
        (np.uint16, [0, 3], (0, 255)),
        (np.uint16, [3, 1000], (0, 1023)),
        (np.uint16, [3, 4095], (0, 4095)),
        (np.uint16, [3, 4096], (0, 16383)),
        (np.uint16, [3, 40000], (0, 65535)),
        (np.int32, [3, 4000], (0, 4095)),
        (np.int32, [-1024, 3071], (-1024, 3071)),
        (np.int32, [0, 16_800_000], (0, 16_800_000)),
        (np.float32, [0, 1], (0, 1)),
        (np.float32, [0.25, 0.5], (0, 1)),
        (np.float32, [0, 255], (0, 255)),
        (np.float32, [0.5, 256], (0.5, 256)),
        (np.float32, [-0.5, 0.5], (-0.5, 0.5)),
        (np.float32, [280.5, 280.5], (280.5, 281.5)),
    ],
)
def test_the_scale_is_chosen_by_type_and_values(
    dtype: type, values: list[float], expected: tuple[float, float]
) -> None:
    seen, size = look_at(encode(Image.fromarray(np.array([values], dtype)), "TIFF"), MAX_PIXELS)
    assert seen is not None and size == (2, 1)
    assert choose([seen])[0] == expected
    middle = Seen(values[0], values[0], seen.whole, seen.is_float)
    assert choose([middle, seen])[0] == expected  # of all images together


def test_the_card_s_lines_give_the_pixels_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    ways: list[tuple[np.ndarray, str, ValueRange]] = [
        (random.integers(0, 4300, (40, 30)).astype(np.uint16), "PNG", (0.0, 4095.0)),
        (random.integers(-1100, 3200, (40, 30)).astype(np.int32), "TIFF", (-1024.0, 3071.0)),
        (random.normal(295.3, 7, (40, 30)).astype(np.float32), "TIFF", (float(np.float32(280.1)), 310.7)),
        (random.random((40, 30)).astype(np.float32), "TIFF", (0.0, 1.0)),
    ]
    for values, kind, value_range in ways:
        exif = Image.Exif()
        exif[274] = 6  # to be turned by a quarter
        data = encode(Image.fromarray(values), kind, exif=exif)
        (tmp_path / "photo.jpg").write_bytes(data)  # Pillow goes by content
        scope: dict[str, Image.Image] = {}
        imports, lines = convert_lines(value_range)
        exec(f"{imports}from PIL import Image, ImageOps\n{lines}", scope)
        ours = open_rgb(data, MAX_PIXELS, json.loads(json.dumps(value_range)))
        assert np.array_equal(np.asarray(ours), np.asarray(scope["image"]))
        stock = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270))
        assert differs_from_stock(value_range) and not np.array_equal(np.asarray(ours), stock)
    same = encode(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16)), "PNG")
    stock = np.asarray(Image.open(io.BytesIO(same)).convert("RGB"))
    assert not differs_from_stock((0.0, 255.0)) and np.array_equal(
        np.asarray(open_rgb(same, MAX_PIXELS, (0.0, 255.0))), stock
    )
