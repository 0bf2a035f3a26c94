"""Names of numbered classes that stand in a file beside shards, as people and `datasets` write them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.card_facts import card_classes
from hf_finetune.data.sources.parquet import class_names
from hf_finetune.errors import DataError
from hf_finetune.files.bounded import MOST_BYTES, read_json

_LISTS = ("classnames.txt", "classes.txt", "class_names.txt", "labels.txt")


def class_names_beside(folder: Path, root: Path, column: str, config: Data) -> tuple[str, ...] | None:
    """One name a line in `classnames.txt` (or so), or those that `dataset_info` gives the column, in `folder` or at the
    `root` of the dataset; None where there are none. Raises DataError for a list that is none."""
    for place in dict.fromkeys((folder, root)):
        for name in _LISTS:
            if (path := place / name).is_file():
                return _listed(path)
        if (names := _from_info(place / "dataset_info.json", column)) is not None:
            return names
        if (names := card_classes(place, config.config or "default").get(column)) is not None:
            return names
    return None


def _listed(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"data.name: names of classes are expected in {path}, found more than {MOST_BYTES:,} bytes",
                "write one name a line, in the order of the class numbers",
            )
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.name: names of classes are expected in {path}: {error}", "save it as UTF-8") from error
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(
            f"data.name: names of classes are expected once each in {path}, found {twice[0]!r} twice",
            "give each line a name of its own",
        )
    return names


def _from_info(path: Path, column: str) -> tuple[str, ...] | None:
    """Of a dataset_info.json as `datasets` writes it; a damaged one says nothing."""
    if not path.is_file():
        return None
    try:
        features = read_json(path).get("features", {})
        return class_names(features.get(column))
    except (OSError, ValueError, AttributeError):
        return None
