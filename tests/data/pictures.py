"""Small real images for the index's tests."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from hf_finetune.types import Reader, Row


def jpeg(number: int) -> bytes:
    """A JPEG of 12 × 10 pixels; another number, other bytes."""
    pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def read_all(reader: Reader, rows: tuple[Row, ...]) -> list[bytes]:
    """The bytes of every row; here and not in a test module, so that a new process imports little."""
    return [reader.read(row.locator) for row in rows]


def put(path: Path, number: int) -> Path:
    """Writes image `number` at `path`, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(number))
    return path


def class_folders(root: Path, sizes: Mapping[str, int], first: int = 0) -> Path:
    """`sizes` images in each folder below `root`, all different; numbers start at `first`."""
    for folder, size in sizes.items():
        for _ in range(size):
            put(root / folder / f"{first}.jpg", first)
            first += 1
    return root
