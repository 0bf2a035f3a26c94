"""Which level of folders names the classes, and which the splits, told from the folders alone.

Owns the decision and the question that is asked where folders do not tell; rows are made by `class_folders`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import count, listing
from hf_finetune.data.sources.split_names import gives_training, read_splits, split_in, split_of
from hf_finetune.errors import DataError
from hf_finetune.types import Split

Parts = tuple[str, ...]  # the folders above an image, and its name


@dataclass(frozen=True)
class Layout:
    """Levels of folders, counted from 1 below the root. `split_level` 0: no split folders, and `splits` is empty.

    `joined`: images in folders that are no split train; else they are left out.
    """

    class_level: int
    split_level: int = 0
    splits: tuple[str, ...] = ()
    joined: bool = False

    def split(self, parts: Parts) -> str | None:
        """The split by the dataset's own name, `train` where there is none, None for an image that is left out."""
        if not self.split_level:
            return "train"
        own = parts[self.split_level - 1] if len(parts) > self.split_level else None
        return own if own in self.splits else "train" if self.joined else None

    def label(self, parts: Parts) -> str | None:
        """The class by its folder's name; None for an image that lies above the class folders."""
        return parts[self.class_level - 1] if len(parts) > self.class_level else None


def decide(root: Path, images: Sequence[Parts], config: Data) -> Layout:
    """The layout of a folder's images. Raises DataError with a question where two readings are as good."""
    if config.class_level is not None:
        return _asked(root, images, config.class_level, config)
    below = _folders(images, 1)
    if splits := _split_folders(below, config):
        _ask_below_splits(root, images, splits)
        return Layout(2, 1, splits)
    if wrapped := _wrapped(below):
        raise _one_of_several(root, wrapped, sorted(top for (top,) in below if top != wrapped))
    if inner := _splits_below(below):
        if len(below) == 1 and _folders(images, 2):
            raise _one_of_several(root, next(iter(below))[0], [])
        if len(_shared(_folders(images, 2))) > 1:
            raise _question(root, sorted(top for (top,) in below), inner, deeper=True)
        return Layout(1, 2, inner)
    shared = _shared(below)
    if len(shared) > 1:
        raise _question(root, sorted(top for (top,), names in below.items() if shared & names), sorted(shared))
    return Layout(1)


def _folders(images: Sequence[Parts], depth: int) -> dict[Parts, set[str]]:
    """For each folder at a depth that holds an image, the folders in it that do."""
    below: defaultdict[Parts, set[str]] = defaultdict(set)
    for parts in images:
        if len(parts) > depth:
            inside = below[parts[:depth]]
            if len(parts) > depth + 1:
                inside.add(parts[depth])
    return below


def _shared(below: Mapping[Parts, set[str]]) -> set[str]:
    """Names of folders that stand in more than one folder."""
    seen = Counter(name for names in below.values() for name in names)
    return {name for name, number in seen.items() if number > 1}


def _ask_below_splits(root: Path, images: Sequence[Parts], splits: Parts) -> None:
    """Raises DataError where the class folders of one split hold folders of the same names: which are the classes?"""
    inside = _folders(images, 2)
    for split in splits:
        own = {parts: names for parts, names in inside.items() if parts[0] == split}
        shared = sorted(_shared(own))
        if len(shared) > 1:
            tops = sorted(top for (_, top), names in own.items() if set(shared) & names)
            raise DataError(
                f"data.class_level: folders that tell the classes are expected in {root / split}, found "
                f"{listing(tops)}, which hold folders of the same names: {listing(shared)}",
                f"set data.class_level=2 if the classes are {listing(tops)}; or data.class_level=3 if the classes are "
                f"{listing(shared)}",
            )


def _wrapped(below: Mapping[Parts, set[str]]) -> str | None:
    """The one folder of several that holds split folders and nothing else: a dataset beside other pictures."""
    whole = [top for (top,), names in below.items() if names and len(r := read_splits(names)) == len(names)
             and gives_training(r)]  # fmt: skip
    return whole[0] if len(whole) == 1 and len(below) > 1 else None


def _one_of_several(root: Path, wrapped: str, others: Sequence[str]) -> DataError:
    beside = f", beside {listing(others)}" if others else ""
    return DataError(
        f"data.name: the folder that holds the split folders, or class folders, is expected, found {root}, whose "
        f"{wrapped} holds split folders{beside}",
        f"set data.name={root / wrapped}" + ("; or data.class_level=1 if these are the classes" if others else ""),
    )


def _named(config: Data) -> set[str]:
    return {name.casefold() for name in (config.train_split, config.validation_split, config.test_split) if name}


def _split_folders(below: Mapping[Parts, set[str]], config: Data) -> Parts:
    """The split folders at the top, in order; empty where the folders at the top are no splits.

    A folder `train` that holds images directly beside other class folders is a class (bus, car, train).
    """
    named = _named(config)
    tops = sorted(top for (top,) in below)
    with_classes = {top for (top,), names in below.items() if names}
    reads = read_splits(tops)
    found = [top for top in tops if top in reads or top.casefold() in named]
    others = [top for top in tops if top not in found]
    trains = [top for top in found if top in with_classes and (reads.get(top) == "train" or top.casefold() in named)]
    only_read = [top for top in found if split_of(top) is None and top.casefold() not in named]
    if only_read and not gives_training(reads):
        found, others, trains = [], tops, []  # `toy_train` alone is a class
    inside = {frozenset(names) for names in below.values()}
    if len(found) == 1 and len(inside) == 1 and len(next(iter(inside))) == 1 and not named:
        return ()  # a class called train among others that hold one folder of the same name
    if len(found) == 1 and others and not named and found[0] in with_classes:
        raise _beside(found[0], others, reads.get(found[0]))
    if trains:
        return tuple(found)
    return tuple(found) if found and not others and with_classes else ()


def _splits_below(below: Mapping[Parts, set[str]]) -> Parts:
    """Split folders inside every class folder (`cats/train`, `cats/test`), in order; else empty."""
    names = sorted(set().union(*below.values())) if below else []
    reads = read_splits(names)
    if not names or len(reads) < len(names) or not gives_training(reads):
        return ()
    inside = [{reads[name] for name in own} for own in below.values()]
    return tuple(names) if all("train" in own for own in inside) else ()


def _asked(root: Path, images: Sequence[Parts], level: int, config: Data) -> Layout:
    """The layout with `data.class_level`: split folders may stand above it, or just below."""
    deepest = max((len(parts) - 1 for parts in images), default=0)
    if level > deepest:
        raise DataError(
            f"data.class_level: images in folders at least {count(level, 'level')} below {root} are expected, found "
            f"images at most {count(deepest, 'level')} below it",
            f"set data.class_level to {deepest or 1} at most, or to null",
        )
    named = _named(config)
    inside = all(len(parts) != level + 1 for parts in images)  # no image lies in a class folder itself
    for place in [*range(1, level), *([level + 1] if inside else [])]:
        names = sorted({parts[place - 1] for parts in images if len(parts) > max(place, level)})
        reads: dict[str, Split] = read_splits(names)
        found = [name for name in names if name in reads or name.casefold() in named]
        usual = place < level and any(split_of(name) or name.casefold() in named for name in names)
        if found and (usual or gives_training(reads)):
            return Layout(level, place, tuple(found), joined="train" not in reads.values() and not config.train_split)
    return Layout(level)


def _beside(found: str, others: Sequence[str], reads: Split | None) -> DataError:
    split = reads or "train"
    return DataError(
        f"data.{split}_split: classes in {found} or classes beside it are expected, found both: {found} holds "
        f"folders of images, and beside it are {listing(others)}",
        f"if {found} is the {split} split, "
        + (
            f"set data.train_split={found}"
            if split == "train"
            else f"put {listing(others)} into a folder train beside it, or set data.ignore_splits=[{found}] to leave "
            "it out"
        )
        + f"; if {found} is a class, set data.class_level=1",
    )


def _question(root: Path, tops: Sequence[str], inner: Sequence[str], *, deeper: bool = False) -> DataError:
    level = 3 if deeper else 2
    one = [f"data.name={root / tops[0]} to take one of them"] if deeper else []
    answers = [
        *one,
        f"data.class_level=1 if the classes are {listing(tops)}",
        f"data.class_level={level} if the classes are "
        + (f"the folders in {listing(inner)}" if deeper else listing(inner)),
    ]
    train = next((top for top in tops if split_in(top) in (None, "train")), None)
    other = next((top for top in tops if top != train), None)
    if not deeper and train and other:
        split = split_in(other) or "test"
        answers.append(f"data.train_split={train} data.{split}_split={other} if {train} and {other} are splits")
    return DataError(
        f"data.class_level: folders that tell the classes are expected below {root}, found {listing(tops)}, which "
        f"hold folders of the same names: {listing(inner)}",
        "set " + "; or ".join(answers),
    )
