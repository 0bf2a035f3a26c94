"""Splits of a table that names none: told by the folders in which its files lie (`train/a.jpg`, `test/b.jpg`)."""

from __future__ import annotations

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import SourceRejected, SourceRow, listing
from hf_finetune.data.sources.split_names import gives_training, read_splits

OUTSIDE = "(in no split folder)"


def split_by_folder(splits: dict[str, list[SourceRow]], rejected: list[SourceRejected], config: Data) -> str:
    """Moves rows, in place, from the one split to those of their folders; returns what to say, "" for none.

    A level of folders divides where it has a folder for training and another one, or one that the recipe names.
    """
    rows = [row for part in splits.values() for row in part]
    folders = [row.name.split("/")[:-1] for row in rows]
    asked = (config.train_split, config.validation_split, config.test_split, *config.ignore_splits)
    named = {name.casefold() for name in asked if name}
    for level in range(max(map(len, folders), default=0)):
        names = sorted({parts[level] for parts in folders if len(parts) > level})
        if not (gives_training(read_splits(names)) or any(name.casefold() in named for name in names)):
            continue
        splits.clear()
        for row, parts in zip(rows, folders, strict=True):
            splits.setdefault(parts[level] if len(parts) > level else OUTSIDE, []).append(row)
        for number, gone in enumerate(rejected):
            parts = gone.name.split("/")[:-1]
            if len(parts) > level:
                splits.setdefault(parts[level], [])
                rejected[number] = SourceRejected(gone.name, parts[level], gone.reason)
        return f"; splits from the folders {listing(names)}"
    return ""
