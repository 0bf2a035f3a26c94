"""Finds the image, label and split columns of a table: by type first, then by the names that are usual.

Of a split column the values are looked at too; labels are judged by `index.label_values`, once they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import listing
from hf_finetune.data.sources.split_names import gives_training, read_splits, split_in
from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.types import Note

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
WEBDATASET_LABEL = ("cls",)  # which `datasets` makes a column of
SPLIT_NAMES = ("split", "splits", "set", "subset", "partition", "phase", "usage", "fold", "data_split", "dataset_split",
               "split_name")  # fmt: skip
INDEX_NAMES = ("", "index", "id", "idx", "row", "unnamed: 0", "__index_level_0__")  # as pandas writes its row numbers

Kind = Literal["image", "path", "class", "text", "whole", "number", "list", "other"]
LABELS: tuple[Kind, ...] = ("class", "text", "whole", "number", "list")
Values = Callable[[str], Iterable[object]]


@dataclass(frozen=True)
class Columns:
    """The names of the columns to use; a table that is not for training may lack `labels` and the `group`."""

    image: str
    labels: tuple[str, ...]
    split: str | None
    notes: tuple[Note, ...] = ()
    group: str | None = None

    def described(self) -> str:
        """`images from path, labels from class, splits from set`."""
        labels = f"labels from {', '.join(map(repr, self.labels))}" if self.labels else "no labels"
        texts = [f"images from {self.image!r}", labels]
        texts += [f"splits from {self.split!r}"] if self.split else []
        return ", ".join([*texts, f"groups from {self.group!r}"] if self.group else texts)


def find(
    kinds: Mapping[str, Kind],
    config: Data,
    source: str,
    values: Values,
    *,
    needs_label: bool = True,
    guess_split: bool = True,
) -> Columns:
    """Chooses columns by `kinds`: image (encoded bytes), path (text that names image files), class (a ClassLabel).

    `values` gives the distinct values of a column of text or whole numbers. Raises DataError where a named column is
    missing, or where none or several could be meant; with `needs_label=False` a table may have no label at all, and no
    groups. Without `guess_split` no column is taken for splits that the recipe does not name.
    """
    split, notes = find_split(kinds, config, source, values) if guess_split or config.split_column else (None, ())
    image = find_image(kinds, config, source)
    group = _group(kinds, config, source, needed=needs_label)
    free: dict[str, Kind] = {name: kind for name, kind in kinds.items() if name not in (image, split, group)}
    if not needs_label and not any(kind in LABELS for kind in free.values()):
        return Columns(image, (), split, notes, group)
    named = [_named("label_column", name, kinds, source) for name in config.label_columns]
    labels = tuple(name for name in named if name is not None) or (_label(kinds, free, source),)
    for label in labels:
        if label == image or kinds[label] in ("image", "other"):
            raise DataError(
                f"data.label_column: class names, numbers or lists are expected in column {label!r} of {source}, found "
                f"{_described(kinds)}",
                "set data.label_column to the column that holds them",
            )
    return Columns(image, labels, split, notes, group)


def find_image(kinds: Mapping[str, Kind], config: Data, source: str) -> str:
    """The column of images or of their paths alone. Raises DataError as `find` does."""
    image = _named("image_column", config.image_column, kinds, source) or _image(kinds, source)
    if kinds[image] not in ("image", "path", "text"):
        raise DataError(
            f"data.image_column: encoded images or paths are expected in column {image!r} of {source}, found "
            f"{_described(kinds)}",
            "set data.image_column to the column that holds them",
        )
    return image


def is_usual_label(name: str) -> bool:
    """Whether a column is called as label columns usually are."""
    return _plain(name) in LABEL_NAMES


def _plain(name: str) -> str:
    return name.strip().casefold()


def _named(field: str, wanted: str | None, kinds: Mapping[str, Kind], source: str) -> str | None:
    """The column that the recipe names, blanks around it aside; None where it names none. Raises DataError."""
    if wanted is None or wanted in kinds:
        return wanted
    found = next((name for name in kinds if name.strip() == wanted.strip()), None)
    if found is None:
        raise _missing(field, wanted, kinds, source)
    return found


def _group(kinds: Mapping[str, Kind], config: Data, source: str, *, needed: bool) -> str | None:
    """The column of what rows belong to. Raises DataError."""
    try:
        group = _named("group_column", config.group_column, kinds, source)
    except DataError:
        if needed:
            raise
        return None
    if group is not None and kinds[group] == "image":
        raise DataError(
            f"data.group_column: names or numbers are expected in column {group!r} of {source}, found images",
            f"set data.group_column to another of {listing((name for name in kinds if name != group), 20)}",
        )
    return group


def find_split(
    kinds: Mapping[str, Kind], config: Data, source: str, values: Values
) -> tuple[str | None, tuple[Note, ...]]:
    """The column that names each row's split, and a note on one that may be meant and does not read so."""
    if (named := _named("split_column", config.split_column, kinds, source)) is not None:
        return named, ()
    taken = (*config.label_columns, config.image_column, config.group_column)
    usual = [name for name, kind in kinds.items() if _plain(name) in SPLIT_NAMES and name not in taken]
    usual = [name for name in usual if kinds[name] in ("text", "whole", "class")]
    if own := next((name for name in usual if _plain(name) == "split"), None):
        return own, ()
    found = {name: [str(value).strip() for value in values(name) if value is not None] for name in usual}
    reading = [name for name, its in found.items() if "train" in read_splits(its).values()]
    if len(reading) > 1:
        raise _ambiguous("split", reading, kinds, source)
    if reading:
        return reading[0], ()
    others = [name for name, kind in kinds.items() if kind == "text" and name not in (*usual, *taken)]
    by_value = [name for name in others if not is_usual_label(name) and _divides(values(name))]
    if len(by_value) > 1:
        raise _ambiguous("split", by_value, kinds, source)
    if by_value:
        return by_value[0], ()
    marks = [name for name, kind in kinds.items() if kind in ("text", "whole") and _marks_a_split(name, values)]
    found |= {name: [str(value) for value in values(name)] for name in marks if name not in taken}
    return None, tuple(
        Note(
            "a column that may name the split is not used, since none of its values reads like train; "
            "data.split_column and data.train_split would use it",
            f"{name} ({listing(its)})",
        )
        for name, its in found.items()
    )


def _divides(values: Iterable[object]) -> bool:
    """Whether every value reads like a split, one of them like train and another like one of the others."""
    texts = {str(value).strip() for value in values if value is not None} - {""}
    return gives_training(reads := read_splits(texts)) and len(reads) == len(texts)


def _marks_a_split(name: str, values: Values) -> bool:
    """`is_test` with yes and no: a column called after one split that holds two values."""
    return split_in(name) is not None and not is_usual_label(name) and len({str(each) for each in values(name)}) == 2


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


def _label(kinds: Mapping[str, Kind], free: Mapping[str, Kind], source: str) -> str:
    """Of the columns that are not taken: a ClassLabel, else a usual name, else the only one."""
    classes = [name for name, kind in free.items() if kind == "class"]
    if len(classes) == 1:
        return classes[0]
    plain = classes or [name for name, kind in free.items() if kind in LABELS]
    usual = _usual(plain, LABEL_NAMES) or _usual(plain, WEBDATASET_LABEL)
    coordinates = [name for name in plain if _plain(name) == "x"]
    if len(usual) == 1 and not (coordinates and _plain(usual[0]) == "y"):
        return usual[0]
    if len(usual) > 1 or classes or usual:
        raise _ambiguous("label", [*coordinates, *usual] if len(usual) == 1 else usual or classes, kinds, source)
    rest = [name for name in plain if _plain(name) not in INDEX_NAMES and not _plain(name).startswith("unnamed: ")]
    for candidates in (rest, plain):
        if len(candidates) == 1:
            return candidates[0]
    raise _absent("label", kinds, source)


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if _plain(name) in usual]


def _described(kinds: Mapping[str, Kind]) -> str:
    words = {
        "image": "image",
        "path": "path",
        "class": "class",
        "text": "text",
        "whole": "whole number",
        "number": "number",
        "list": "list",
        "other": "other",
    }
    return ", ".join(f"{one_line(name)} ({words[kind]})" for name, kind in kinds.items()) or "no columns"


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
