"""A small folder of real JPEGs whose classes a tiny backbone can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n/a", "1", "grün")  # names that careless code parses, or cannot write


def write_photos(folder: Path, *, per_class: int = 20, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Noisy images of three brightness levels, 40 × 30 px, as folder/split/class/*.jpg; `n/a` becomes `n⁄a`."""
    random = np.random.default_rng(0)
    for split in splits:
        for level, name in enumerate(CLASSES):
            place = folder / split / name.replace("/", "⁄")
            place.mkdir(parents=True)
            for number in range(per_class):
                pixels = np.clip(40 + 80 * level + random.normal(0, 25, (30, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)
    return folder
