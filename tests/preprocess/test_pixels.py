"""Opening images: every mode and kind of damage that datasets hold, and the geometry of `render`."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from hf_finetune.data.store.views import Check, Exact, Squash
from hf_finetune.preprocess.pixels import (
    UnreadableImage,
    normalise_constants,
    open_rgb,
    open_sized,
    quiet_pillow,
    render,
    squash,
)
from hf_finetune.types import CenterCrop, Preprocess, Resize, ResizeShortest
from tests.data.store.samples import MAX_PIXELS, PREPROCESS, SQUASHED, encode, picture


def as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


MODES = {"PNG": "L LA P RGBA 1", "TIFF": "L LA P RGBA CMYK 1", "JPEG": "L CMYK", "WEBP": "RGBA", "GIF": "L P 1"}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()])
def test_every_mode_becomes_what_pillow_converts_it_to(kind: str, mode: str) -> None:
    data = encode(picture(31, 23).convert(mode), kind)
    opened = Image.open(io.BytesIO(data))
    opened.load()
    assert as_array(open_rgb(data, MAX_PIXELS)).tolist() == as_array(opened.convert("RGB")).tolist()


def test_a_palette_with_alpha_gives_its_colours_without_a_warning() -> None:
    palette = picture(9, 9).quantize(8)
    data = encode(palette, "PNG", transparency=bytes([0, 128, 255]))
    assert Image.open(io.BytesIO(data)).info["transparency"] == bytes([0, 128, 255])
    assert as_array(open_rgb(data, MAX_PIXELS)).tolist() == as_array(palette.convert("RGB")).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied_as_pillow_does(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(picture(37, 22), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image, size, _ = open_sized(data, MAX_PIXELS)
    assert as_array(image).tolist() == as_array(expected).tolist()
    assert size == image.size == ((22, 37) if orientation >= 5 else (37, 22))


def test_an_unreadable_exif_block_counts_as_upright() -> None:
    data = encode(picture(20, 10), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    with quiet_pillow():
        assert open_rgb(data, MAX_PIXELS).size == (20, 10)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (12, 10), color) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    opened = Image.open(io.BytesIO(data))
    assert opened.n_frames == 3  # pyright: ignore[reportAttributeAccessIssue]
    red, green, blue = as_array(open_rgb(data, MAX_PIXELS)).mean(axis=(0, 1))
    assert red > 190 and max(green, blue) < 10


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header that promises `width` × `height`, and hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"not an image at all", r"not an image, or of a format that is not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"not an image, or of a format that is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"not an image, or of a format that is not read"),
        (encode(picture(80, 60))[:700], r"cannot be decoded: image file is truncated"),
        (encode(picture(80, 60), "PNG")[:700], r"cannot be decoded: image file is truncated"),
        (encode(picture(80, 60), "WEBP")[:400], r"cannot be decoded: "),
        (bomb(8000, 8000), r"8000 × 8000 is more than 50,000,000 pixels \(data.max_pixels\)"),
        (bomb(20000, 20000), r"more pixels than Pillow opens: "),
    ],
    ids=["empty", "text", "svg", "eps", "jpeg cut", "png cut", "webp cut", "64 Mpx", "400 Mpx"],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        open_rgb(data, MAX_PIXELS)


def test_an_image_at_the_pixel_limit_is_read_and_one_row_more_is_not() -> None:
    assert open_rgb(encode(picture(50, 40)), 2000).size == (50, 40)
    with pytest.raises(UnreadableImage, match="50 × 41 is more than 2,000 pixels"):
        open_rgb(encode(picture(50, 41)), 2000)


def test_damaged_bytes_give_a_reason_and_never_another_error() -> None:
    random = np.random.default_rng(0)
    kinds = [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {}), ("AVIF", {}), ("JPEG2000", {})]
    refused = 0
    with quiet_pillow():
        for kind, options in kinds:
            whole = np.frombuffer(encode(picture(40, 30), kind, **options), np.uint8)
            for _ in range(60):
                damaged = whole.copy()
                damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
                try:
                    open_rgb(damaged.tobytes(), MAX_PIXELS)
                except UnreadableImage as error:
                    assert str(error)
                    refused += 1
    assert refused > 50


@pytest.mark.parametrize("size", [(33, 47), (47, 33), (5, 90), (90, 5), (32, 32), (36, 36), (1, 300)])
def test_render_gives_the_output_size_whatever_the_input(size: tuple[int, int]) -> None:
    for preprocess in (PREPROCESS, SQUASHED):
        pixels = render(picture(*size), preprocess)
        assert pixels.shape == (3, preprocess.height, preprocess.width)
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous


def test_a_strip_that_would_take_gigabytes_is_refused() -> None:
    strip = Image.new("RGB", (1, 49_000), (10, 20, 30))
    wide = Preprocess(**{**vars(PREPROCESS), "steps": (ResizeShortest(256, 3), CenterCrop(224, 224, "floor"))})
    with pytest.raises(UnreadableImage, match="1 × 49000 is too narrow: resized it would be 256 × 12,544,000"):
        render(strip, wide)
    with pytest.raises(UnreadableImage, match="1 × 49000 is too narrow"):
        Check(wide.steps or ()).draw(encode(strip, "PNG"), MAX_PIXELS)


def test_render_without_steps_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="a test has no steps: the stock processor itself must run"):
        render(picture(9, 9), Preprocess(**{**vars(PREPROCESS), "steps": None}))


def test_the_constants_normalise_as_the_formula_says() -> None:
    preprocess = Preprocess(**{**vars(SQUASHED), "offset": -1.0, "scale": 1 / 127.5})
    multiply, add = normalise_constants(preprocess)
    pixels = render(picture(50, 60), preprocess)
    wanted = (pixels / 127.5 - 1.0 - np.array(preprocess.mean)[:, None, None]) / np.array(preprocess.std)[:, None, None]
    assert multiply.dtype == add.dtype == np.float32
    np.testing.assert_allclose(pixels * multiply[:, None, None] + add[:, None, None], wanted, atol=4e-6)


def test_a_large_jpeg_is_drafted_for_training_rows_only_and_stays_close() -> None:
    data = encode(picture(900, 700).resize((900, 700)), quality=95)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    squashed, size, _ = Squash(64, 3).draw(data, MAX_PIXELS)
    difference = squashed.astype(float) - squash(full, 64, 3)
    assert size == (900, 700)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 40  # decibels
    exact, size, _ = Exact(PREPROCESS).draw(data, MAX_PIXELS)
    assert size == (900, 700)
    assert (exact == render(full, PREPROCESS)).all()


def test_the_check_finds_a_jpeg_that_ends_too_early_and_keeps_the_size() -> None:
    data = encode(picture(301, 203))
    pixels, size, _ = Check().draw(data, MAX_PIXELS)
    assert pixels.size == 0 and size == (301, 203)
    with pytest.raises(UnreadableImage, match="truncated"):
        Check().draw(data[: len(data) - 400], MAX_PIXELS)


def test_an_odd_margin_is_split_as_each_library_does() -> None:
    column = np.zeros((7, 7, 3), np.uint8)
    column[..., 0] = np.arange(7)
    image = Image.fromarray(column)
    base = {**vars(PREPROCESS), "height": 4, "width": 4}
    for rounding, first in (("half_even", 2), ("floor", 1)):  # (7 − 4) / 2 = 1.5
        steps = (Resize(7, 7, 0), CenterCrop(4, 4, rounding))  # pyright: ignore[reportArgumentType]
        assert render(image, Preprocess(**{**base, "steps": steps}))[0, 0].tolist() == list(range(first, first + 4))
