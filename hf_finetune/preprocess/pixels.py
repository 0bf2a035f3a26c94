"""From encoded bytes to uint8 pixels: opening, colour, rotation, and the checkpoint's resize rule.

Owns what an image *is* for this program, so that store, evaluation, prediction and export cannot differ. Does not own
reading files, caching or normalising on the device. Pillow and numpy only: worker processes import this module.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from hf_finetune.errors import first_line
from hf_finetune.preprocess.value_range import Seen, is_high_bit, to_grey8
from hf_finetune.types import CenterCrop, PixelStep, Preprocess, Resize, ResizeShortest, ValueRange

# EPS and WMF run outside programs and TGA has no signature, so a damaged file could pass for one: none of them is here.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF", "ICO", "QOI", "PCX",
           "HEIF")  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")

# A 1 × 50,000 strip has few pixels until its short edge is resized to 256; stock code then takes gigabytes.
MAX_RESIZED_PIXELS = 100_000_000

# Pillow puts the address of the file object in some messages; two runs should say the same.
_ADDRESS = re.compile(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>")

# What Pillow's decoders raise on damaged files (its own documentation names OSError and SyntaxError; the rest was seen
# with Pillow 13.0 on files with flipped bytes). Anything else ends the worker, and the row is named from there.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

# EXIF 2.32, tag 0x0112: how the stored rows and columns must be turned to be seen upright.
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(ValueError):  # noqa: N818 - it is said of the image, not of us
    """The bytes are not an image that can be used; the text is the reason, fit to stand after a row's name."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings about odd files, and lifts its limit on pixels (`without_pillow_limit`).

    It changes the process's filters: for a batch, from one thread.
    """
    with warnings.catch_warnings(), without_pillow_limit():
        warnings.filterwarnings("ignore", module="PIL")
        yield


_limit_lock = threading.Lock()
_lifted: list[int | None] = []  # Pillow's own limit, once for each block that is at work


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Lifts the limit at which Pillow takes an image for a bomb, while the block runs: ours is `max_pixels`, which is
    asked for every image before it is decoded. The last of several blocks, in any threads, puts it back."""
    with _limit_lock:
        _lifted.append(_lifted[0] if _lifted else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _limit_lock:
            limit = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = limit


class Opened(NamedTuple):
    """An RGB image, the width and height of the original after its EXIF rotation, and how many of its values lay beyond
    the value range."""

    image: Image.Image
    size: tuple[int, int]
    clipped: int


def open_rgb(data: bytes, max_pixels: int, value_range: ValueRange | None = None) -> Image.Image:
    """Decodes to a Pillow RGB image, EXIF rotation applied. See `open_sized`."""
    return open_sized(data, max_pixels, value_range=value_range).image


def open_sized(
    data: bytes, max_pixels: int, *, draft_side: int | None = None, value_range: ValueRange | None = None
) -> Opened:
    """Decodes to an RGB image, with the width and height that the original has after its EXIF rotation.

    Alpha is dropped and palettes are looked up as `Image.convert("RGB")` does, which is what stock code does. High-bit
    grey is scaled by `value_range` (`convert` clips everything above 255 to white). Of an animation the first frame is
    taken. `draft_side`: a JPEG may be decoded at 1/2, 1/4 or 1/8, as long as both edges stay at least this long.

    Raises UnreadableImage: empty, not an image, damaged, truncated, more than `max_pixels` (known from the header,
    before anything is decoded), or high-bit grey without a `value_range`.
    """
    with _decoding():
        image, (width, height) = _decoded(data, max_pixels, draft_side)
        turn = _ORIENTATIONS.get(_orientation(image))
        rgb, clipped = _to_rgb(image, value_range)
        upright = rgb.transpose(turn) if turn is not None else rgb
    swapped = turn is not None and turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    )
    return Opened(upright, ((height, width) if swapped else (width, height)), clipped)


def look_at(data: bytes, max_pixels: int) -> tuple[Seen | None, tuple[int, int]]:
    """What values a high-bit grey image holds (None: it is another image), and its width and height as stored.

    Raises UnreadableImage as `open_sized` does.
    """
    with _decoding():
        image, size = _decoded(data, max_pixels, None)
        if not is_high_bit(image.mode):
            return None, size
        values = _finite(image)
        whole = image.mode != "F" or bool(np.array_equal(values, np.rint(values)))
        return Seen(float(values.min()), float(values.max()), whole, image.mode == "F"), size


def upright_rgb(image: Image.Image, value_range: ValueRange | None = None) -> tuple[Image.Image, int]:
    """An opened image as 8-bit RGB, turned as its EXIF says, and how many of its values were clipped."""
    turn = _ORIENTATIONS.get(_orientation(image))
    rgb, clipped = _to_rgb(image, value_range)
    return (rgb.transpose(turn) if turn is not None else rgb), clipped


class Header(NamedTuple):
    """The Pillow mode, the number of pixels, and whether it is 16-bit colour, of which Pillow gives the high byte."""

    mode: str = ""
    pixels: int = 0
    deep_colour: bool = False


def read_header(data: bytes | Path) -> Header:
    """What an image's header says, nothing decoded; an empty one where it is no image."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_formats()) as image:
            deep = not is_high_bit(image.mode) and any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
            return Header(image.mode, image.width * image.height, deep)
    except DECODE_ERRORS:
        return Header()


def _decoded(data: bytes, max_pixels: int, draft_side: int | None) -> tuple[Image.Image, tuple[int, int]]:
    if not data:
        raise UnreadableImage("the file is empty (0 bytes)")
    if "HEIF" not in _formats() and data[4:8] == b"ftyp" and any(brand in data[8:40] for brand in _HEIF_BRANDS):
        raise UnreadableImage("HEIC images are read after pip install 'hf_finetune[heic]'")
    image = Image.open(io.BytesIO(data), formats=_formats())
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} × {height} is more than {max_pixels:,} pixels (data.max_pixels)")
    if draft_side is not None and image.format == "JPEG":
        image.draft(None, (draft_side, draft_side))
    image.load()
    return image, (width, height)


@contextmanager
def _decoding() -> Iterator[None]:
    """Whatever Pillow raises becomes UnreadableImage."""
    try:
        yield
    except UnreadableImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(
            "not an image, or of a format that is not read (JPEG, PNG, WebP, GIF, TIFF … are)"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"more pixels than Pillow opens: {error}") from error
    except DECODE_ERRORS as error:
        raise UnreadableImage(f"cannot be decoded: {_ADDRESS.sub('', first_line(error))}") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read; HEIF where the extra `heic` is installed."""
    Image.init()
    with suppress(ImportError):
        from pi_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """1 to 8. An EXIF block that cannot be read counts as upright, as it does in viewers: the pixels are still good."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODE_ERRORS:
        return 1


def _to_rgb(image: Image.Image, value_range: ValueRange | None) -> tuple[Image.Image, int]:
    if image.mode == "RGB":
        return image, 0
    if is_high_bit(image.mode):
        values = _finite(image)
        if value_range is None:
            raise UnreadableImage(_NO_RANGE.format(_KINDS.get(image.mode, "16-bit grey")))
        grey, clipped = to_grey8(values, value_range)
        return Image.fromarray(grey, "L").convert("RGB"), clipped
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        # Same values as a direct conversion, without Pillow's warning.
        return image.convert("RGBA").convert("RGB"), 0
    return image.convert("RGB"), 0


_KINDS = {"I": "32-bit grey", "F": "floating-point grey"}
_NO_RANGE = (
    "{}, and no value of it is known to be white, since no training image that was looked at is so: convert it to 8 "
    "bits, or train with data.value_range"
)


def _finite(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode == "F" and not np.isfinite(values).all():
        raise UnreadableImage("floating-point grey values that are not finite")
    return values


def render(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The checkpoint's pixels before normalisation: uint8 [3, height, width], RGB.

    Channels stay in RGB order even where `preprocess.bgr`: who normalises reverses them (see `normalise_constants`).
    Raises ValueError where the preprocess has no steps, UnreadableImage where the aspect makes the resize enormous.
    """
    if preprocess.steps is None:
        raise ValueError(f"{preprocess.source} has no steps: the stock processor itself must run")
    for step in preprocess.steps:
        image = _apply(image, step)
    return planar(image)


def squash(image: Image.Image, side: int, resample: int) -> np.ndarray:
    """The whole image at `side` × `side`, whatever its aspect: uint8 [3, side, side].

    Very large images are first reduced by whole factors, to no less than three times the side: Pillow's documentation
    calls the result "very close to fair resampling". Only for training rows, which no stock processor repeats.
    """
    return planar(image.resize((side, side), resample, reducing_gap=3.0))


def planar(image: Image.Image) -> np.ndarray:
    """RGB image to uint8 [3, height, width], contiguous."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _apply(image: Image.Image, step: PixelStep) -> Image.Image:
    width, height = image.size
    match step:
        case Resize():
            return image.resize((step.width, step.height), step.resample)
        case ResizeShortest():
            longer = _longer_edge(width, height, step)
            size = (step.edge, longer) if width <= height else (longer, step.edge)
            return image.resize(size, step.resample)
        case CenterCrop():
            left = _margin(width - step.width, step.rounding)
            top = _margin(height - step.height, step.rounding)
            # Pillow fills what lies outside with zeros, as both libraries pad.
            return image.crop((left, top, left + step.width, top + step.height))


def check_aspect(width: int, height: int, steps: Sequence[PixelStep]) -> None:
    """Raises UnreadableImage where `render` would: a strip so narrow that resizing its short edge takes gigabytes."""
    for step in steps:
        if isinstance(step, ResizeShortest):
            _longer_edge(width, height, step)


def _longer_edge(width: int, height: int, step: ResizeShortest) -> int:
    # torchvision (functional._compute_resized_output_size) and transformers truncate the longer edge alike.
    longer = int(step.edge * max(width, height) / min(width, height))
    if longer * step.edge > MAX_RESIZED_PIXELS:
        raise UnreadableImage(f"{width} × {height} is too narrow: resized it would be {step.edge} × {longer:,}")
    return longer


def _margin(excess: int, rounding: str) -> int:
    """Where a centred crop starts; negative: how much is padded before.

    torchvision crops at round-half-even and pads the smaller half first; transformers floors, which pads the larger
    half first (transformers.image_transforms.center_crop, torchvision.transforms.functional.center_crop).
    """
    if rounding == "floor":
        return excess // 2
    return round(excess / 2) if excess >= 0 else -(-excess // 2)


def normalise_constants(preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """`(multiply, add)`, float32 [3] each, so that `pixel_values = uint8 · multiply + add`.

    In the order of the stored RGB channels. Where `preprocess.bgr`, reverse the channels afterwards.
    """
    mean, std = np.asarray(preprocess.mean, np.float64), np.asarray(preprocess.std, np.float64)
    multiply = preprocess.scale / std
    return multiply.astype(np.float32), ((preprocess.offset - mean) / std).astype(np.float32)
