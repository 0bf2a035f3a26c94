"""The checkpoint's own preprocessing: read from its stock processor, written as steps, and checked against it.

Owns the reading and the check. Does not own the pixels themselves (pixels.py) nor the model's facts. The stock
processor stays the authority: steps that differ from it by one byte are not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_finetune.errors import ModelError
from hf_finetune.preprocess.pixels import normalise_constants, render
from hf_finetune.preprocess.rules import read_rule
from hf_finetune.preprocess.stock import (
    STOCK_FAILURES,
    is_timm,
    kind_of,
    library_words,
    stock_processor,
    stock_renderer,
)
from hf_finetune.types import Preprocess

logger = logging.getLogger(__name__)

# float32 arithmetic in another order: a few units in the last place of values of magnitude up to 1 (relative above).
FLOAT_TOLERANCE = 1e-6


def read_preprocess(name: str, revision: str | None) -> Preprocess:
    """The checkpoint's preprocessing as steps, equal byte for byte to the stock processor, or with `steps=None`.

    Raises ModelError where the processor gives no [3, H, W], no fixed size, or pixels that uint8 cannot carry.
    """
    processor = stock_processor(name, revision)
    label = Path(name).name if Path(name).is_dir() else f"{name}@{revision or 'main'}"
    return describe_processor(processor, label)


def describe_processor(processor: Any, label: str) -> Preprocess:
    """`read_preprocess` for a processor object that is already there; `label` opens the `source` text."""
    rule = read_rule(processor)
    height, width = _output_size(processor, label)
    images = awkward_images(height, width)
    preprocess = Preprocess(
        steps=rule.steps,
        height=height,
        width=width,
        mean=rule.mean,
        std=rule.std,
        scale=rule.scale,
        offset=rule.offset,
        bgr=rule.bgr,
        resample=rule.resample,
        source=f"{label}: {kind_of(processor)}",
    )
    why = "its rule cannot be written in steps"
    if rule.steps is not None:
        why = _difference(preprocess, processor, images)
        if not why:
            return preprocess
    stock = replace(preprocess, steps=None, source=f"{preprocess.source} {_fingerprint(processor)}")
    problem = _difference(stock, processor, images)
    if problem:
        raise ModelError(
            f"model.name: preprocessing that goes through uint8 pixels was expected; {label} ({kind_of(processor)}) is "
            f"different: {problem}",
            "choose a checkpoint of the same family whose processor resizes, crops, rescales and normalises",
        )
    logger.info("%s: %s; the stock processor itself prepares evaluation images (slower)", label, why)
    return stock


def verify_preprocess(preprocess: Preprocess, processor: Any, images: Sequence[Image.Image]) -> bool:
    """Whether `preprocess` gives the processor's pixels: bytes before normalisation, and floats to 1e-6 after it."""
    return not _difference(preprocess, processor, images)


def awkward_images(height: int, width: int) -> list[Image.Image]:
    """Noise over a gradient at sizes where rounding rules differ: odd, exact, tall, wide, smaller, off by one."""
    sizes = [
        (width, height),
        (width + 1, height + 2),
        (2 * width + 3, height + 5),
        (width + 4, 2 * height + 7),
        (max(2, width // 2 - 1), max(2, height // 2)),
        (3 * width + 1, max(2, height // 2 + 1)),
        (97, 61),
        (61, 143),
    ]
    random = np.random.default_rng(0)
    images = []
    for columns, rows in sizes:
        slope = np.add.outer(np.linspace(0, 128, rows), np.linspace(0, 96, columns))[..., None]
        noise = random.integers(0, 32, (rows, columns, 3))
        images.append(Image.fromarray((slope + noise).astype(np.uint8)))
    return images


# ------------------------------------------------------------------------------------------------------------- checking


def _difference(preprocess: Preprocess, processor: Any, images: Sequence[Image.Image]) -> str:
    """Empty, or the first difference found, in words."""
    reference = stock_renderer(processor)
    multiply, add = normalise_constants(preprocess)
    for image in images:
        size = f"{image.width} × {image.height}"
        try:
            pixels = reference(image)
            wanted = _stock_floats(processor, image)
        except STOCK_FAILURES as error:
            return f"the stock processor fails on a {size} image: {library_words(error)}"
        ours = pixels if preprocess.steps is None else render(image, preprocess)
        if ours.shape != pixels.shape:
            return f"a {size} image becomes {ours.shape} in steps and {pixels.shape} in the stock processor"
        if not np.array_equal(ours, pixels):
            return f"{(ours != pixels).mean():.2%} of the bytes of a {size} image differ"
        values = ours.astype(np.float32) * multiply[:, None, None] + add[:, None, None]
        values = values[::-1] if preprocess.bgr else values
        scale = max(1.0, float(np.abs(wanted).max()))
        error = float(np.abs(values - wanted).max())
        if not error <= FLOAT_TOLERANCE * scale:
            return f"normalised values of a {size} image differ by {error:.2g}"
    return ""


def _stock_floats(processor: Any, image: Image.Image) -> np.ndarray:
    kind = "pt" if is_timm(processor) else "np"
    return np.asarray(processor(image, return_tensors=kind)["pixel_values"][0], dtype=np.float32)


def _output_size(processor: Any, label: str) -> tuple[int, int]:
    """Height and width that every image gets. Raises ModelError where they depend on the image."""
    shapes = set()
    for size in ((640, 480), (301, 517)):
        try:
            shapes.add(stock_renderer(processor)(Image.new("RGB", size, (90, 120, 30))).shape[1:])
        except STOCK_FAILURES as error:
            raise ModelError(
                f"model.name: an image processor that gives pixel_values [3, height, width] was expected; that of "
                f"{label} ({kind_of(processor)}) does not: {library_words(error)}",
                "choose an image classifier whose forward takes pixel_values [batch, 3, height, width]",
            ) from error
    if len(shapes) != 1:
        raise ModelError(
            f"model.name: preprocessing to one fixed size was expected; {label} ({kind_of(processor)}) gives images of "
            f"{' and '.join(f'{width} × {height}' for height, width in sorted(shapes))}",
            "choose a checkpoint whose processor resizes to height and width, or crops the centre",
        )
    height, width = shapes.pop()
    return int(height), int(width)


def _fingerprint(processor: Any) -> str:
    """Versions and settings: pixels stored through the stock processor are only good for exactly these."""
    import timm
    import transformers

    text = json.dumps(processor.to_dict(), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"(stock, transformers {transformers.__version__}, timm {timm.__version__}, settings {digest})"
