"""Finds the image, label and split columns of a table: by type first, then by the names that are usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hf_finetune.data.config import Data
from hf_finetune.errors import DataError

IMAGE_NAMES = (
    "image",
    "images",
    "img",
    "picture",
    "photo",
    "file_name",
    "filename",
    "image_path",
    "img_path",
    "path",
    "filepath",
    "file_path",
    "file",
    "image_file",
    "pixel_values",
)
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "fine_label", "label_name", "species",
               "breed", "y")  # fmt: skip

Kind = Literal["image", "path", "class", "text", "whole", "other"]


@dataclass(frozen=True)
class Columns:
    """The names of the columns to use."""

    image: str
    label: str
    split: str | None


def find(kinds: Mapping[str, Kind], config: Data, source: str) -> Columns:
    """Chooses columns by `kinds`: image (encoded bytes), path (text that names image files), class (a ClassLabel).

    Raises DataError where a named column is missing, or where none or several could be meant.
    """
    split = next((name for name in kinds if name.casefold() == "split" and name != config.label_column), None)
    image = config.image_column or _image(kinds, source)
    if image not in kinds:
        raise _missing("image_column", image, kinds, source)
    if kinds[image] not in ("image", "path", "text"):
        raise DataError(
            f"data.image_column: encoded images or paths are expected in column {image!r} of {source}, found "
            f"{_described(kinds)}",
            "set data.image_column to the column that holds them",
        )
    label = config.label_column or _label(kinds, {image, split}, source)
    if label not in kinds:
        raise _missing("label_column", label, kinds, source)
    if label == image or kinds[label] in ("image", "other"):
        raise DataError(
            f"data.label_column: class names or whole numbers are expected in column {label!r} of {source}, found "
            f"{_described(kinds)}",
            "set data.label_column to the column that holds them",
        )
    return Columns(image, label, split)


def _image(kinds: Mapping[str, Kind], source: str) -> str:
    for kind in ("image", "path", "text"):
        found = [name for name, its in kinds.items() if its == kind]
        if len(found) == 1 and kind != "text":
            return found[0]
        usual = _usual(found, IMAGE_NAMES)
        if len(usual) == 1:
            return usual[0]
        if found and kind != "text":
            raise _ambiguous("image", found, kinds, source)
        if len(usual) > 1:
            raise _ambiguous("image", usual, kinds, source)
    raise _absent("image", kinds, source)


def _label(kinds: Mapping[str, Kind], taken: set[str | None], source: str) -> str:
    free = {name: kind for name, kind in kinds.items() if name not in taken}
    classes = [name for name, kind in free.items() if kind == "class"]
    if len(classes) == 1:
        return classes[0]
    plain = classes or [name for name, kind in free.items() if kind in ("text", "whole")]
    usual = _usual(plain, LABEL_NAMES)
    if len(usual) == 1:
        return usual[0]
    if len(usual) > 1 or classes:
        raise _ambiguous("label", usual or classes, kinds, source)
    if len(plain) == 1:
        return plain[0]
    raise _absent("label", kinds, source)


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if name.strip().casefold() in usual]


def _described(kinds: Mapping[str, Kind]) -> str:
    words = {
        "image": "image",
        "path": "path",
        "class": "class",
        "text": "text",
        "whole": "whole number",
        "other": "other",
    }
    return ", ".join(f"{name} ({words[kind]})" for name, kind in kinds.items()) or "no columns"


def _missing(field: str, name: str, kinds: Mapping[str, Kind], source: str) -> DataError:
    return DataError(
        f"data.{field}: {source} has no column {name!r}, found {_described(kinds)}", f"set data.{field} to one of these"
    )


def _ambiguous(what: str, names: Sequence[str], kinds: Mapping[str, Kind], source: str) -> DataError:
    return DataError(
        f"data.{what}_column: one {what} column is expected in {source}, found {' and '.join(names)} "
        f"among {_described(kinds)}",
        f"set data.{what}_column to the one to use",
    )


def _absent(what: str, kinds: Mapping[str, Kind], source: str) -> DataError:
    return DataError(
        f"data.{what}_column: no column of {source} could be told to be the {what} column, found {_described(kinds)}",
        f"set data.{what}_column to the one to use",
    )
