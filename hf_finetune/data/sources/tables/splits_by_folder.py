"""Splits of a table that names none: told by the folders in which its files lie (`train/a.jpg`, `test/b.jpg`)."""

from __future__ import annotations

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import SourceRejected, SourceRow, listing
from hf_finetune.data.sources.split_names import gives_training, read_splits

OUTSIDE = "(in no split folder)"
UP = ".."


def split_by_folder(splits: dict[str, list[SourceRow]], rejected: list[SourceRejected], config: Data) -> str:
    """Moves rows, in place, from the one split to those of their folders; returns what to say, "" for none.

    A level of folders divides where it has a folder for training and another one, or one that the recipe names. `..`
    is a way and no folder: behind it lies a row in none of them.
    """
    rows = [row for part in splits.values() for row in part]
    folders = [row.name.split("/")[:-1] for row in rows]
    asked = (config.train_split, config.validation_split, config.test_split, *config.ignore_splits)
    named = {name.casefold() for name in asked if name}
    for level in range(max(map(len, folders), default=0)):
        names = sorted({parts[level] for parts in folders if len(parts) > level} - {UP})
        if not (gives_training(read_splits(names)) or any(name.casefold() in named for name in names)):
            continue
        splits.clear()
        for row, parts in zip(rows, folders, strict=True):
            splits.setdefault(_at(parts, level) or OUTSIDE, []).append(row)
        for number, gone in enumerate(rejected):
            if (folder := _at(gone.name.split("/")[:-1], level)) is not None:
                splits.setdefault(folder, [])
                rejected[number] = SourceRejected(gone.name, folder, gone.reason)
        return f"; splits from the folders {listing(names)}"
    return ""


def _at(parts: list[str], level: int) -> str | None:
    """The folder of that level, None where the row lies in none."""
    return parts[level] if len(parts) > level and parts[level] != UP else None
