"""What is to be said of a dataset as a whole: rare classes, names that are hard to tell apart, hints at groups."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from hf_finetune.data.sources.source import count, listing
from hf_finetune.doctor.everything import Everything
from hf_finetune.types import Note

_IMBALANCE = 10  # rows of the largest class for one of the smallest
_FEW = 5  # rows of a class, below which there is little to learn
_ALIKE, _LEAST_LETTERS, _MOST_NAMES = 0.87, 6, 2_000
# What a name may say of where it belongs: all before the last or the first separator, and the folder below the class's.
_PATTERNS = (r"(.+)[_-][^_/-]+$", r"([^_/-]+)[_-][^/]*$", r"([^/]+)/[^/]+$", r"([0-9]{2,})[^/]*$")
# Of rows whose nearest neighbour is of the same group: how many it takes, and how often chance would do it.
_LEAST_SHARE, _TIMES_CHANCE, _LEAST_GROUPED = 0.3, 3.0, 20


def imbalance(everything: Everything) -> list[Note]:
    """Of the training rows' classes."""
    classes = everything.classes
    if classes is None:
        return []
    names = everything.index.columns[0].names
    train = np.array([split == "train" for split in everything.split_of])
    sizes = Counter(classes[train].tolist())
    largest, smallest = max(sizes, key=lambda each: sizes[each]), min(sizes, key=lambda each: sizes[each])
    notes = []
    if sizes[largest] >= _IMBALANCE * sizes[smallest]:
        said = f"classes are uneven: {count(sizes[largest], 'training row')} of {names[largest]}"
        ways = "train.sampler=balanced, task.class_weights=auto or task.logit_adjustment=1 evens them"
        notes.append(Note(f"{said}, {sizes[smallest]:,} of {names[smallest]}; {ways}"))
    if few := [names[each] for each in sizes if sizes[each] < _FEW]:
        said = f"{count(len(few), 'class', 'classes')} with fewer than {_FEW} training rows"
        notes.append(Note(f"{said}: {listing(few)}"))
    return notes


def alike_names(names: Sequence[str]) -> list[Note]:
    """Names of one column that may mean the same."""
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_key[_key(name)].append(name)
    pairs = [tuple(group) for group in by_key.values() if len(group) > 1]
    if len(names) <= _MOST_NAMES:
        keys = [key for key in by_key if len(key) >= _LEAST_LETTERS and not any(map(str.isdigit, key))]
        for place, key in enumerate(keys):
            for close in difflib.get_close_matches(key, keys[place + 1 :], n=3, cutoff=_ALIKE):
                pairs.append((by_key[key][0], by_key[close][0]))
    if not pairs:
        return []
    shown = listing(" and ".join(map(repr, pair)) for pair in pairs)
    return [Note(f"{count(len(pairs), 'pair')} of label names may mean the same: {shown}")]


def _key(name: str) -> str:
    """Letters and digits alone, without a plural s, in one case."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(char for char in folded if char.isalnum()).removesuffix("s") or folded


def groups(everything: Everything, nearest: np.ndarray) -> list[Note]:
    """A hint at rows that belong together by their names (a patient, a burst): where the nearest neighbour int64 [N] of
    the same class is far more often of the same group than chance would have it, and splits part groups."""
    for pattern in _PATTERNS:
        group = [found[1] if (found := re.search(pattern, name)) else "" for name in everything.names]
        sizes = Counter(each for each in group if each)
        rows = [row for row, each in enumerate(group) if each and sizes[each] > 1 and nearest[row] >= 0]
        # As many groups as classes are the classes.
        if len(rows) < _LEAST_GROUPED or len(sizes) <= max(1, len(everything.index.labels.names)):
            continue
        hits = sum(group[row] == group[nearest[row]] for row in rows) / len(rows)
        if hits < max(_LEAST_SHARE, _TIMES_CHANCE * _by_chance(everything.classes, [group[row] for row in rows], rows)):
            continue
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            splits[group[row]].add(everything.split_of[row])
        if torn := sorted(name for name, its in splits.items() if len(its) > 1):
            said = f"names tell groups ({listing(torn, 3)}), of which {len(torn):,} are in more than one split"
            alike = f"{100 * hits:.0f} % of their rows look most like one of the same group"
            return [Note(f"{said}, and {alike}: data.group_pattern='{pattern}' keeps them together")]
    return []


def _by_chance(classes: np.ndarray | None, group: Sequence[str], rows: Sequence[int]) -> float:
    """How often another row of the same class, any of them, is of the same group as each of `rows`."""
    sizes = Counter(group)
    within = np.zeros(len(rows), np.int64) if classes is None else classes[rows]
    of_class = np.bincount(within)[within]
    same = np.array([sizes[each] for each in group])
    return float(np.mean((same - 1) / np.maximum(1, of_class - 1)))
