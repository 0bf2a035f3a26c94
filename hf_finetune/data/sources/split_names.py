"""Which split a name stands for: the name of a folder, a file, a split of the Hub, or a value in a column.

Owns the usual names, and how a name that only contains one of them is read beside its siblings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from hf_finetune.types import SPLITS, Split

ALIASES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_GLUED = re.compile(r"(train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(sets?|data|images?|imgs?|split)")
_SAYS_NOTHING = frozenset(
    ("set", "sets", "data", "dataset", "split", "image", "images", "img", "imgs", "photo", "photos", "picture",
     "pictures", "pics", "file", "files", "folder", "dir")
)  # fmt: skip


def split_of(name: str) -> Split | None:
    """The split that a usual name stands for, whatever its case; None for any other name."""
    folded = name.strip().casefold()
    return next((split for split in SPLITS if folded in ALIASES[split]), None)


def read_splits(names: Iterable[str]) -> dict[str, Split]:
    """The split of each name that reads like one among these siblings; the others are left out.

    For each split a usual name (`val`) goes before one that contains it (`val_images`, `val2017`). Names may share
    further words (`beans_train` beside `beans_test`); where they do not (`toy_train` beside `test_tube`), none reads
    like a split.
    """
    listed = list(dict.fromkeys(names))
    found: dict[str, Split] = {name: split for name in listed if (split := split_of(name)) is not None}
    usual = set(found.values())
    parts = {name: each for name in listed if name not in found and (each := _parts(name)) is not None}
    shared = Counter(rest for _, rest in parts.values())
    rest = () if usual or not shared or shared[()] else shared.most_common(1)[0][0]
    if not rest or shared[rest] > 1:
        found |= {name: split for name, (split, own) in parts.items() if own == rest and split not in usual}
    return {name: found[name] for name in listed if name in found}


def split_in(name: str) -> Split | None:
    """The split whose word a name contains, whatever else it says (`holdout_test`); None for none or several."""
    if (usual := split_of(name)) is not None:
        return usual
    parts = _parts(name)
    return None if parts is None else parts[0]


def is_meant(name: str, wanted: Iterable[str]) -> bool:
    """Whether a folder, file or split is one of those that a recipe names; `val` also means `validation`."""
    asked = {each.strip().casefold() for each in wanted}
    split = split_of(name)
    return name.strip().casefold() in asked or (split is not None and split in map(split_of, asked))


def is_training(split: str, train_split: str | None) -> bool:
    """Whether a file or split of this name is for training: the one that the recipe names, else by how it reads."""
    return is_meant(split, [train_split]) if train_split is not None else split_in(split) == "train"


def split_of_blanks(values: Iterable[object]) -> str:
    """What a blank in a column of splits stands for, by the column's values: `train` where it marks validation and test
    rows alone; else nothing, and such a row has no split."""
    named = {text for value in values if value is not None and (text := str(value).strip())}
    reads = read_splits(named)
    return "train" if named and len(reads) == len(named) and "train" not in reads.values() else ""


def splits_of_files(names: Iterable[str]) -> dict[str, str]:
    """The split of each file that is a part of a dataset, by its name (`train-00000-of-00012.parquet`, `train_003.tar`)
    or a folder above it; `names` are paths with forward slashes."""
    stems = {name: _stem(name) for name in names}
    reads = read_splits(stems.values())
    found: dict[str, str] = {}
    for name, stem in stems.items():
        above = next((part for part in reversed(name.split("/")[:-1]) if split_of(part)), None)
        split = stem if stem in reads else above
        # A file of any other name is for training only where no file is.
        found[name] = split or (stem if "train" in reads.values() else "train")
    return found


def _stem(name: str) -> str:
    """The name that all parts of one split share: `train` of `data/train-00000-of-00002.parquet` and `train_1`."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    if (shard := _SHARD.fullmatch(stem)) is not None:
        return shard["split"]
    head = re.split(r"[-._ ]", stem)[0]
    return head if split_of(head) is not None else re.sub(r"[-._ ]?[0-9]+$", "", stem) or stem


def gives_training(splits: Mapping[str, Split]) -> bool:
    """Whether these are a division: a training split and another one beside it."""
    return "train" in splits.values() and len(set(splits.values())) > 1


def _parts(name: str) -> tuple[Split, tuple[str, ...]] | None:
    """The one split that a name contains, and its other words in order; None where it contains none or several."""
    words: list[str] = []
    for word in map(str.casefold, _WORD.findall(name)):
        glued = _GLUED.fullmatch(word)
        words += [word] if glued is None else [glued[1], glued[2]]
    splits: set[Split] = {split for word in words if (split := split_of(word)) is not None}
    if len(splits) != 1:
        return None
    return splits.pop(), tuple(word for word in words if split_of(word) is None and word not in _SAYS_NOTHING)
