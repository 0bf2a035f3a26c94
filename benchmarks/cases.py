"""The photos that every method gets: one folder tree a case, the same files for all of them.

    from cases import CASES, make_case

A tree is `{train,validation,test}/CLASS/file`. Official splits are kept; where one is missing it is cut here, by class,
with seed 0. A size is a number of training photos, drawn by class; validation and test stay whole.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Photo = tuple[str, str, Path | bytes]  # class, file name, where its bytes are
Splits = dict[str, list[Photo]]


@dataclass(frozen=True)
class Case:
    """`flip`: whether a mirrored image still shows its class. `size`: training photos, None for all."""

    title: str
    dataset: str
    size: int | None
    flip: bool = True


CASES: dict[str, Case] = {
    **{
        f"{dataset}-{size or 'all'}": Case(
            f"{title}, {size or 'all'} training photos", dataset, size, dataset != "digits"
        )
        for dataset, title, sizes in (
            ("trashnet", "TrashNet, 6 classes", (100, 500, None)),
            ("hymenoptera", "hymenoptera, 2 classes", (100, None)),
            ("houses", "houses' fronts, thirds by price", (100, None)),
            ("digits", "handwritten digits, 10 classes (far domain)", (100, 500, None)),
        )
        for size in sizes
    }
}


class NoDataError(Exception):
    """The photos of a case are not on this machine; the text is the reason that the table shows."""


def make_case(name: str, data: Path, folder: Path) -> Path:
    """The tree of a case below `folder`, made if it is not there yet. Raises NoDataError."""
    case, tree = CASES[name], folder / name
    if (tree / "complete").is_file():
        return tree / "photos"
    shutil.rmtree(tree, ignore_errors=True)
    splits = READERS[case.dataset](data / "datasets" / case.dataset)
    if case.size is not None:
        splits["train"], _ = by_class(splits["train"], case.size / len(splits["train"]))
    write_tree(splits, tree)
    return tree / "photos"


def recut(name: str, tree: Path, data: Path, folder: Path, share: Callable[[list[Photo], int], Splits]) -> Path:
    """The case's training and validation photos in new splits below `tree`, once; its test is left out.

    `share(photos, validation)`: the new splits of all these photos, of which so many validated. Raises NoDataError.
    """
    source = make_case(name, data, folder)
    if (tree / "complete").is_file():
        return tree / "photos"
    shutil.rmtree(tree, ignore_errors=True)
    train, validation = (sorted((source / split).glob("*/*")) for split in ("train", "validation"))
    photos: list[Photo] = [(path.parent.name, path.name, path) for path in (*train, *validation)]
    write_tree(share(photos, len(validation)), tree)
    return tree / "photos"


def write_tree(splits: Mapping[str, list[Photo]], tree: Path) -> None:
    """`tree`/photos/SPLIT/CLASS/file, and a mark that all of them are there."""
    for split, photos in splits.items():
        for label, file, source in photos:
            target = tree / "photos" / split / label / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
    (tree / "complete").touch()


def by_class(photos: list[Photo], share: float, seed: int = 0) -> tuple[list[Photo], list[Photo]]:
    """`share` of each class, at least one photo, and the rest."""
    taken: list[Photo] = []
    rest: list[Photo] = []
    for label in sorted({photo[0] for photo in photos}):
        own = sorted((photo for photo in photos if photo[0] == label), key=lambda photo: photo[1])
        random.Random(seed).shuffle(own)
        count = max(1, round(share * len(own)))
        taken += own[:count]
        rest += own[count:]
    return taken, rest


def _folder(root: Path) -> list[Photo]:
    if not root.is_dir():
        raise NoDataError(f"no folder datasets/{root.parent.name}/{root.name} in the data folder")
    return [(path.parent.name, path.name, path) for path in sorted(root.glob("*/*")) if _is_photo(path)]


def _is_photo(path: Path) -> bool:
    """Every method gets the files that Pillow can read: how each takes broken ones is not compared here."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.verify()
        return path.suffix.lower() in {".jpg", ".jpeg", ".png"}
    except (OSError, SyntaxError):
        return False


def _trashnet(root: Path) -> Splits:
    return {"train": _folder(root / "train"), "validation": _folder(root / "val"), "test": _folder(root / "test")}


def _hymenoptera(root: Path) -> Splits:
    validation, train = by_class(_folder(root / "train"), 0.2)
    return {"train": train, "validation": validation, "test": _folder(root / "val")}


def _houses(root: Path) -> Splits:
    """Thirds by price: the product has no regression yet, so that its price is a class here."""
    table = root / "houses.csv"
    if not table.is_file():
        raise NoDataError("no datasets/houses/houses.csv in the data folder")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prices = sorted(float(row["price_usd"]) for row in rows)
    low, high = prices[len(prices) // 3], prices[2 * len(prices) // 3]
    photos: list[Photo] = []
    for row in rows:
        price = float(row["price_usd"])
        label = "low" if price < low else "middle" if price < high else "high"
        path = root / row["image"]
        photos.append((label, path.name, path))
    rest, test = by_class(photos, 0.8)
    train, validation = by_class(rest, 0.8)
    return {"train": train, "validation": validation, "test": test}


def _digits(_: Path) -> Splits:
    """scikit-learn's handwritten digits, 8 × 8 grey, as PNG files."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    photos: list[Photo] = []
    images, targets = load_digits(return_X_y=True)
    for number, (values, target) in enumerate(zip(images, targets, strict=True)):
        pixels = np.rint(values * (255 / 16)).astype(np.uint8).reshape(8, 8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        photos.append((str(target), f"{number:04d}.png", buffer.getvalue()))
    rest, test = by_class(photos, 0.85)
    train, validation = by_class(rest, 0.82)
    return {"train": train, "validation": validation, "test": test}


READERS: Mapping[str, Callable[[Path], Splits]] = {
    "trashnet": _trashnet,
    "hymenoptera": _hymenoptera,
    "houses": _houses,
    "digits": _digits,
}
