"""The scale of a data set's high-bit grey images: from its training rows alone, the same every time."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources.readers import BytesReader
from hf_finetune.data.store.open_views import Options, open_views
from hf_finetune.data.store.store import squashed
from hf_finetune.data.store.views import Exact
from hf_finetune.data.value_range import DEEP_COLOUR, high_bit_rows, settle_value_range
from hf_finetune.errors import DataError
from hf_finetune.preprocess.pixels import open_rgb, render
from hf_finetune.types import Index, Row
from tests.data.store.samples import MAX_PIXELS, PREPROCESS, encode
from tests.preprocess.test_pixels import chunk

pytestmark = pytest.mark.e2e


def write(folder: Path, split: str, highest: int, dtype: Any = np.uint16, suffix: str = "png", count: int = 6) -> None:
    """Ramps of 0 to `highest` in two classes."""
    for number in range(count):
        place = folder / split / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(0, highest - (number > 0), 40 * 30).round().reshape(30, 40)
        Image.fromarray(ramp.astype(dtype)).save(place / f"{number}.{suffix}")


def data(folder: Path, **settings: Any) -> Data:
    return Data(name=str(folder), cache_dir=str(folder / "cache"), validation_share=0, test_share=0, **settings)


def settled(folder: Path, **settings: Any) -> tuple[Any, list[str]]:
    config = data(folder, **settings)
    value_range, notes = settle_value_range(scan(config, seed=0), config, 1)
    return value_range, [note.text for note in notes]


def test_the_scale_is_that_of_the_training_rows_and_others_are_clipped_by_it(tmp_path: Path) -> None:
    write(tmp_path / "x", "train", 4095)
    write(tmp_path / "x", "test", 60_000)
    value_range, (first, second) = settled(tmp_path / "x")
    assert value_range == (0.0, 4095.0)
    assert first == (
        "high-bit grey images: values 0 to 4095 become black to white in every image, from the values of 6 training "
        "images: the highest is 4095, which takes 12 bits"
    )
    assert second.startswith("stock code (a pipeline, Pillow's convert) takes 0 to 255 of such images")
    index = scan(data(tmp_path / "x"), seed=0)
    preprocess = replace(PREPROCESS, value_range=value_range)
    wanted = [("train", squashed(40, preprocess)), ("test", Exact(preprocess))]
    for limit in (None, 0):  # in the store and decoded on the fly
        train, test = open_views(index, wanted, Options(1, tmp_path / f"cache {limit}", limit, MAX_PIXELS))
        assert (train.on_disk, train.clipped) == (limit is None, None)
        assert test.clipped is not None
        assert test.clipped.text.startswith("6 of 6 test images hold values beyond 0 to 4095, which are clipped")
        assert "93 % of all their pixels" in test.clipped.text
        place = index.splits["test"][2].locator
        expected = render(open_rgb(Path(str(place)).read_bytes(), MAX_PIXELS, value_range), preprocess)
        assert np.array_equal(test.rows.gather(np.array([2]))[0], expected)
    # another scale is another store
    (other,) = open_views(
        index,
        [("test", Exact(replace(preprocess, value_range=(0.0, 65535.0))))],
        Options(1, tmp_path / "cache", None, MAX_PIXELS),
    )
    assert other.built and other.clipped is None
    assert 200 < other.rows.gather(np.array([2]))[0].max() < 234


def test_a_recipe_may_set_the_scale_and_two_types_of_grey_are_a_question(tmp_path: Path) -> None:
    write(tmp_path / "x", "train", 4095)
    said = settled(tmp_path / "x", value_range=[0, 1000])
    assert said[0] == (0, 1000) and "as data.value_range says" in said[1][0]
    write(tmp_path / "x", "train", 1, np.float32, "tif")
    with pytest.raises(DataError, match=r"whole numbers \(0 to 4095\) beside floats \(0 to 1\)"):
        settled(tmp_path / "x")
    assert settled(tmp_path / "x", value_range=[0, 1000])[0] == (0, 1000)
    write(tmp_path / "y", "train", 255, np.uint8)
    assert settled(tmp_path / "y") == (None, [])
    assert settled(tmp_path / "y", value_range=[0, 9])[1] == [
        "data.value_range is for 16-bit, 32-bit and float grey: none was found"
    ]
    # 16-bit colour: Pillow gives the high byte, and nobody can tell how many bits are meant
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + b"\x0f\xff" * 12) * 4)) + chunk(b"IEND", b"")
    (tmp_path / "y" / "train" / "a" / "deep.png").write_bytes(header + body)
    assert settled(tmp_path / "y") == (None, [DEEP_COLOUR.text])
    with pytest.raises(ValueError, match="expected \\[black, white\\] with black below white"):
        Data(value_range=(5, 5))


def test_the_rows_that_are_looked_at_depend_on_names_alone(tmp_path: Path) -> None:
    write(tmp_path / "x", "train", 4095, count=12)
    (tmp_path / "x" / "train" / "a" / "cut.png").write_bytes(b"\x89PNG\r\n")
    Image.new("L", (9, 9)).save(tmp_path / "x" / "train" / "a" / "eight.png")
    index = scan(data(tmp_path / "x"), seed=0)
    names = [row.name for row in high_bit_rows(index, MAX_PIXELS)[0]]
    assert len(names) == 12 and names != sorted(names)
    turned = replace(index, splits={**index.splits, "train": index.splits["train"][::-1]})
    assert [row.name for row in high_bit_rows(turned, MAX_PIXELS)[0]] == names
    # images within a table are found, too
    images = tuple(encode(Image.fromarray(np.full((4, 4), 100 * n, np.uint16)), "PNG") for n in range(1, 5))
    embedded: Index = replace(
        index,
        reader=BytesReader(images),
        splits={"train": tuple(Row(f"row {n}", n % 2, n) for n in range(4))},
    )
    assert settle_value_range(embedded, data(tmp_path / "x"), 1)[0] == (0.0, 1023.0)
