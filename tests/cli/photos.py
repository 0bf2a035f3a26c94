"""A small folder of real JPEGs whose classes a tiny backbone can learn."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from hf_finetune.cli import main

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


def write_photos_and_table(folder: Path, named: Mapping[str, str] | None = None) -> Path:
    """60 photos a class of train alone, and folder/photos.csv, whose path is returned, with the class of each as
    `named` has it."""
    write_photos(folder, per_class=60, splits=("train",))
    table = folder / "photos.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label"))
        for photo in sorted(folder.rglob("*.jpg")):
            name = photo.parent.name.replace("⁄", "/")
            writer.writerow((photo.relative_to(folder).as_posix(), (named or {}).get(name, name)))
    return table


def train_probe(table: Path, run: Path) -> Path:
    """The starter's probe on `table`, which knows what images like its own are; returns `run`."""
    line = ["model.name=builtin:starter", f"data.name={table}", f"output.dir={run}", "ladder=[probe]"]
    assert main(["train", *line, f"data.cache_dir={run.parent / 'cache'}"]) == 0
    return run
