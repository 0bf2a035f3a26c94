"""Photographs drawn by a seed: JPEGs with noise at every scale, so that decoding costs about what it costs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 512, 384
CLASSES = ("cans", "jars", "lids")


def photo(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A JPEG of quality 90: noise at every scale, its amplitude falling with frequency, somewhat faster than 1 / f."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falls = np.maximum(np.hypot(rows, columns), 1 / max(width, height)) ** -1.5
    channels = []
    for share in (1.0, 0.6, 0.6):  # brightness, then two colours, which vary less
        spectrum = np.fft.rfft2(random.standard_normal((height, width))) * falls
        values = np.fft.irfft2(spectrum, (height, width))
        channels.append(128 + 45 * share * values / values.std())
    pixels = np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.frombytes("YCbCr", (width, height), pixels.tobytes()).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_photos(folder: Path, per_class: int) -> Path:
    """A folder of three class folders of JPEGs, 512 × 384."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for each in range(per_class):
            (folder / name / f"{each}.jpg").write_bytes(photo(number * per_class + each))
    return folder
