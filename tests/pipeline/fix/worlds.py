"""Datasets with given splits whose rows can be taken out, corrected and added to, and runs of a probe on them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from hf_finetune.pipeline.finished import Run
from hf_finetune.pipeline.train import train

CLASSES = ("dark, red", "=bright", "<b>striped</b>")  # the second would be a formula in a spreadsheet
SAFE = tuple(name.replace("/", "⁄") for name in CLASSES)


def picture(number: int, kind: int) -> Image.Image:
    """A noisy picture whose class, 0 to 3, can be seen, though not always."""
    random = np.random.default_rng(1000 * kind + number)
    level = (70, 150, 110, 110)[kind] + random.normal(0, 22)
    pixels = np.full((48, 48, 3), level) + random.normal(0, 20, (48, 48, 3))
    if kind == 2:
        pixels[:, ::6] += 60
    if kind == 3:
        pixels[10:38, 10:38] -= 80
    if kind == 0:
        pixels[..., 0] += 20
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(root: Path, train: int = 22, others: int = 10) -> Path:
    """Class folders in train, validation and test."""
    for split, first, count in (("train", 0, train), ("validation", 100, others), ("test", 200, others)):
        for kind, name in enumerate(SAFE):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                picture(number, kind).save(folder / f"{number}.png")
    return root


def write_table(path: Path, lines: Iterable[tuple[str, str, str]]) -> Path:
    """Of (path, action, label)."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "action", "label"))
        writer.writerows(lines)
    return path


def probe(place: Path, out: Path, **more: object) -> Run:
    """A run of the probe alone on the starter; `more`: sections of the recipe. One image at a time: two
    passes over other rows are compared here, and some kernels round a row by what else is in its batch."""
    recipe: dict[str, object] = {
        "model": {"name": "builtin:starter", "engine": "eager"},
        "train": {"micro_batch": 1},
        "data": {"name": str(place)},
        "ladder": ["probe"],
        "output": {"dir": str(out)},
    }
    for section, content in more.items():
        before = recipe.get(section)
        recipe[section] = {**before, **content} if isinstance(before, dict) and isinstance(content, dict) else content
    return train(recipe)


def head_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Weight [C, d] and bias [C] of a result's head, as its file has them."""
    tensors = load_file(run.result / "adapter_model.safetensors")
    (weight,) = (each for name, each in tensors.items() if name.endswith("weight") and "lora" not in name)
    (bias,) = (each for name, each in tensors.items() if name.endswith("bias"))
    return weight.reshape(len(weight), -1), bias


def labels_of(run: Run) -> list[str]:
    return json.loads((run.result / "hf_finetune.json").read_text(encoding="utf-8"))["labels"]


def apart(run: Run, other: Run) -> float:
    """The largest difference of two heads' weights, relative to the largest weight, whatever order classes are in."""
    names = labels_of(run)
    assert sorted(names) == sorted(labels_of(other))
    order = [labels_of(other).index(name) for name in names]
    worst = 0.0
    for one, two in zip(head_of(run), head_of(other), strict=True):
        worst = max(worst, float(np.abs(one - two[order]).max() / np.abs(one).max()))
    return worst


def write_labelled(root: Path, tables: Mapping[str, list[tuple[str, str]]], source: Path) -> Path:
    """A folder with a table a split, (image, label) each, whose images lie beside them."""
    root.mkdir()
    for image in {name for lines in tables.values() for name, _ in lines}:
        shutil.copyfile(source / image, root / image)
    for split, lines in tables.items():
        with (root / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "label"))
            writer.writerows(lines)
    return root
