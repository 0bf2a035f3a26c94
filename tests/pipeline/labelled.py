"""Pictures whose labels of every kind can be read off them: a grey field as bright as a number says, with white corners
that are labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CORNERS = ("north", "east", "south", "west")
COLUMNS = ("brightness", "lit", "grade", "tone", *CORNERS)


def write_pictures(folder: Path, count: int = 160) -> Path:
    """The table of `count` pictures of 64 × 64, which lie beside it; a few cells of `brightness` are empty."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "pictures.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", *COLUMNS))
        for number in range(count):
            level, lit = random.uniform(40, 200), random.random(4) < 0.4
            pixels = np.full((64, 64, 3), level) + random.normal(0, 6, (64, 64, 3))
            for place in np.flatnonzero(lit):
                row, column = (0, 44) if place % 2 else (44, 0)
                pixels[row : row + 20, column if place < 2 else 22 : (column if place < 2 else 22) + 20] = 255
            name = f"{number:03}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            shown = "" if number % 10 == 7 else f"{10 * level + 0.25:.2f}"
            names = ";".join(name for name, on in zip(CORNERS, lit, strict=True) if on)
            tone = "dark" if level < 90 else "middle" if level < 150 else "bright"
            writer.writerow((name, shown, names, int(level // 40), tone, *map(int, lit)))
    return table
