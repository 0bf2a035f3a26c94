"""Data sets in miniature, in the layout that the benchmarks read."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def write_hymenoptera(data: Path, train: int) -> None:
    """`train` photos a class in train, four in val, which is the test; the classes have a colour each."""
    for split, count in (("train", train), ("val", 4)):
        for number, name in enumerate(("ants", "bees")):
            folder = data / "datasets" / "hymenoptera" / split / name
            folder.mkdir(parents=True)
            for photo in range(count):
                Image.new("RGB", (20, 20), (200 * number, photo, 0)).save(folder / f"{split}{photo}.png")
