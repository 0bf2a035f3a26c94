"""From encoded bytes to uint8 pixels: opening, colour, rotation, and the checkpoint's resize rule.

Owns what an image *is* for this program, so that store, evaluation, prediction and export cannot differ. Does not own
reading files, caching or normalising on the device. Pillow and numpy only: worker processes import this module.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image

from hf_finetune.errors import first_line
from hf_finetune.types import CenterCrop, PixelStep, Preprocess, Resize, ResizeShortest

# EPS and WMF run outside programs and TGA has no signature, so a damaged file could pass for one: none of them is here.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF", "ICO", "QOI", "PCX")

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
    """Silences Pillow's warnings about odd files. It changes the process's filters: for a batch, from one thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def open_rgb(data: bytes, max_pixels: int) -> Image.Image:
    """Decodes to a Pillow RGB image, EXIF rotation applied. See `open_sized`."""
    return open_sized(data, max_pixels)[0]


def open_sized(data: bytes, max_pixels: int, *, draft_side: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Decodes to an RGB image, with the width and height that the original has after its EXIF rotation.

    Alpha is dropped and palettes are looked up as `Image.convert("RGB")` does, which is what stock code does. 16-bit
    grey keeps its high byte (`convert` clips everything above 255 to white). Of an animation the first frame is taken.
    `draft_side`: a JPEG may be decoded at 1/2, 1/4 or 1/8, as long as both edges stay at least this long.

    Raises UnreadableImage: empty, not an image, damaged, truncated, or more than `max_pixels` (known from the header,
    before anything is decoded).
    """
    if not data:
        raise UnreadableImage("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImage(f"{width} × {height} is more than {max_pixels:,} pixels (data.max_pixels)")
        if draft_side is not None and image.format == "JPEG":
            image.draft(None, (draft_side, draft_side))
        image.load()
        turn = _ORIENTATIONS.get(_orientation(image))
        upright = upright_rgb(image)
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
    swapped = turn is not None and turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    )
    return upright, ((height, width) if swapped else (width, height))


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image as 8-bit RGB, turned as its EXIF says."""
    turn = _ORIENTATIONS.get(_orientation(image))
    rgb = _to_rgb(image)
    return rgb.transpose(turn) if turn is not None else rgb


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """1 to 8. An EXIF block that cannot be read counts as upright, as it does in viewers: the pixels are still good."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODE_ERRORS:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image, dtype=np.uint16) >> 8)
    if image.mode == "I":
        return _grey(_scale_int32(np.asarray(image)))
    if image.mode == "F":
        return _grey(_scale_float(np.asarray(image)))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        # Same values as a direct conversion, without Pillow's warning.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values.astype(np.uint8))).convert("RGB")


def _scale_int32(values: np.ndarray) -> np.ndarray:
    """32-bit integers have no white of their own: 8 bits are kept, 16 bits give their high byte, more is refused."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnreadableImage(f"32-bit grey values from {low} to {high} have no known white; convert to 8 or 16 bits")
    return values if high <= 255 else values >> 8


def _scale_float(values: np.ndarray) -> np.ndarray:
    """Floats in 0 … 1 are stretched to 0 … 255; floats in 0 … 255 are kept; anything else is refused."""
    if not np.isfinite(values).all():
        raise UnreadableImage("floating-point grey values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise UnreadableImage(
            f"floating-point grey values from {low:g} to {high:g} have no known white; convert to 8 bits"
        )
    return np.rint(values * 255 if high <= 1 else values)


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
