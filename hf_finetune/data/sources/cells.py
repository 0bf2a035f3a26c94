"""What a cell of a table means: a path, an image name, a label, or nothing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_finetune.data.sources.source import Cell, Cells, RawLabel, plain
from hf_finetune.errors import DataError


def locate(path: str, folder: Path) -> str:
    """The file that a path in a table means: relative to the table's folder, backslashes as on Windows understood.

    Raises DataError for an address on a network.
    """
    if path.startswith(("http://", "https://", "hf://", "s3://", "gs://")):
        raise DataError(
            f"data.image_column: paths of files are expected, found the address {path}",
            "download the images first and give paths relative to the table",
        )
    file = os.path.join(folder, path)  # noqa: PTH118
    if "\\" in path and not os.path.exists(file):  # noqa: PTH110
        file = os.path.join(folder, path.replace("\\", "/"))  # noqa: PTH118
    return file if ".." in path else os.path.normpath(file)  # a folder that is a link makes ".." go elsewhere


def name_below(root: str, file: str) -> str:
    """The path below `root` with forward slashes, or the whole path where it lies elsewhere."""
    below = file[len(root) :].lstrip(os.sep) if file.startswith(root + os.sep) else file
    return plain(below.replace(os.sep, "/"))


def raw_labels(values: Sequence[Any]) -> RawLabel:
    """The cells of a row's label columns; nothing where there are none."""
    if len(values) < 2:
        return raw_label(values[0]) if values else None
    return Cells(map(raw_label, values))


def raw_label(value: Any) -> Cell:
    """A cell as a raw label: text and whole numbers (2.0, too) as they are, nothing for NaN, else its text; a list as
    a tuple of such."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return tuple(each for each in map(raw_label, value) if isinstance(each, str | int))
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def group_id(value: Any) -> str | None:
    """What a cell says that its row belongs to, as text: 7 and 7.0 are one group, and "007" another. None where it is
    blank or missing."""
    cell = raw_label(value)
    return None if cell is None else str(cell).strip() or None


def is_missing(label: RawLabel) -> bool:
    """None, blank text, and -1, by which Hub datasets mark an unlabelled row; of several columns, where all are."""
    if isinstance(label, Cells):
        return all(map(is_missing, label))
    return label is None or label == -1 or (isinstance(label, str) and not label.strip())


def json_list(text: str) -> list[Any] | None:
    """The list that a text holds as JSON; None where it holds anything else."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None
