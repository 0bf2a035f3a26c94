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
