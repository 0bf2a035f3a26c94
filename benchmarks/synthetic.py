"""Photographs that cost little to make: smooth coloured noise as JPEG files in a folder per class, or one by one.

Owns what a synthetic image looks like, and its tree. A class is a colour and a pattern, so that there is something to
learn; every image has light and noise of its own, so that no two files are equal, none compresses to nothing, and
classes overlap (gradients of data that is learnt at once are too small to cost what real ones do).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 72  # pixels: small, since the count of files is what is scaled
GRID = (6, 8)  # rows and columns of the noise, smoothed to the whole image: what gives a photograph's spectrum
QUALITY = 85


def class_name(number: int) -> str:
    """Sorted by name as by number."""
    return f"class_{number:06d}"


def photos(images: int, classes: int, seed: int = 0) -> Iterator[tuple[int, bytes]]:
    """`images` pairs of a class number and a JPEG, the classes in turn. The same arguments give the same bytes.

    Raises ValueError for fewer than one image a class.
    """
    if not 1 <= classes <= images:
        raise ValueError(f"at least one image a class is expected, got {images} images of {classes} classes")
    random = np.random.default_rng(seed)
    colors, patterns = _looks(random, classes)
    for number in range(images):
        label = number % classes
        field = colors[label] + patterns[label] + random.normal(0, 25, (1, 1, 3)) + random.normal(0, 30, (*GRID, 3))
        buffer = io.BytesIO()
        _photo(np.clip(field, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        yield label, buffer.getvalue()


def write_tree(folder: Path, images: int, classes: int, seed: int = 0) -> Path:
    """`images` JPEG files of `classes` classes, each as often as any other (±1), as folder/CLASS/NUMBER.jpg.

    Raises ValueError for fewer than one image a class. The same arguments give the same bytes.
    """
    if not 1 <= classes <= images:
        raise ValueError(f"at least one image a class is expected, got {images} images of {classes} classes")
    random = np.random.default_rng(seed)
    colors, patterns = _looks(random, classes)
    for label in range(classes):
        place = folder / class_name(label)
        place.mkdir(parents=True)
        count = len(range(label, images, classes))
        light = random.normal(0, 25, (count, 1, 1, 3))
        noise = random.normal(0, 30, (count, *GRID, 3))
        fields = np.clip(colors[label] + patterns[label] + light + noise, 0, 255).astype(np.uint8)
        for number, field in enumerate(fields):
            _photo(field).save(place / f"{number:06d}.jpg", quality=QUALITY)
    return folder


def _looks(random: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A colour [C, 1, 1, 3], and a pattern of light and dark [C, *GRID, 1]: 51 numbers a class, so that 20,000 classes
    differ too."""
    colors = random.uniform(90, 165, (classes, 1, 1, 3)).astype(np.float32)
    return colors, random.normal(0, 8, (classes, *GRID, 1)).astype(np.float32)


def _photo(field: np.ndarray) -> Image.Image:
    return Image.fromarray(field).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
