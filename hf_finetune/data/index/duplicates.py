"""Byte-equal images: finds them cheaply, and says where they do harm.

Rows are grouped by size, then by a digest of the last bytes, and only what still collides is read in full.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np

from hf_finetune.data.sources.source import TAIL_BYTES, WHOLE_BYTES, SourceRow, count, listing, tail_digest
from hf_finetune.files.visible import one_line
from hf_finetune.types import Note, Reader

SHOWN = 5
_LEAK = "found byte-equal in more than one split, so that scores are not quite on unseen images"
_CONTRADICTION = "found under contradictory labels"


def equal_rows(rows: Sequence[SourceRow], reader: Reader) -> list[list[int]]:
    """Positions of byte-equal rows, each group in order. Rows that cannot be read, or are empty, are in none."""
    groups: list[list[int]] = []
    for group in _of_one_tail(rows, reader):
        compared = rows[group[0]].size <= TAIL_BYTES or len(rows[group[0]].tail) == WHOLE_BYTES
        if compared or len({rows[number].locator for number in group}) == 1:
            groups.append(group)
        else:
            groups += _collisions(
                (digest, number) for number in group if (digest := _whole(rows[number], reader)) is not None
            )
    return sorted(groups)


def _of_one_size(rows: Sequence[SourceRow]) -> Iterator[list[int]]:
    """Positions of the rows of each size that two or more have, in order; of none that are empty."""
    sizes = np.fromiter((row.size for row in rows), np.int64, len(rows))
    order = np.argsort(sizes, kind="stable")
    bounds = np.flatnonzero(np.diff(sizes[order])) + 1
    for sized in np.split(order, bounds):
        if len(sized) > 1 and sizes[sized[0]] > 0:
            yield sized.tolist()


def _of_one_tail(rows: Sequence[SourceRow], reader: Reader) -> Iterator[list[int]]:
    """The same of those that end alike, too. A size at a time, since a table of every row would be the most that the
    index takes at once."""
    for sized in _of_one_size(rows):
        tails = ((_tail(rows[number], reader), number) for number in sized)
        yield from _collisions((tail, number) for tail, number in tails if tail is not None)


def describe(groups: Iterable[Sequence[tuple[str, str, str]]]) -> list[Note]:
    """Notes on groups of byte-equal rows, each (split, label, name), that span two splits or two labels."""
    leaks: list[str] = []
    contradictions: list[str] = []
    for group in groups:
        labels = sorted({label for _, label, _ in group})
        names = " = ".join(name for _, _, name in group[:SHOWN]) + (" = …" if len(group) > SHOWN else "")
        if len({split for split, _, _ in group}) > 1:
            leaks.append(f"{names} ({', '.join(split for split, _, _ in group[:SHOWN])})")
        if len(labels) > 1:
            contradictions.append(f"{names} ({listing(labels)})")
    notes = []
    if leaks:
        notes.append(Note(f"{count(len(leaks), 'image')} {_LEAK}", _some(leaks)))
    if contradictions:
        notes.append(Note(f"{count(len(contradictions), 'image')} {_CONTRADICTION}", _some(contradictions)))
    return notes


def is_on_copies(note: Note) -> bool:
    """Whether the note is one of `describe`."""
    return note.text.endswith((_LEAK, _CONTRADICTION))


def _some(texts: list[str]) -> str:
    return "; ".join(map(one_line, texts[:SHOWN])) + (f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else "")


def _collisions(keyed: Iterable[tuple[Hashable, int]]) -> list[list[int]]:
    groups: Mapping[Hashable, list[int]] = defaultdict(list)
    for key, number in keyed:
        groups[key].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _tail(row: SourceRow, reader: Reader) -> bytes | None:
    if row.tail:
        return row.tail
    try:
        if isinstance(row.locator, int):
            return tail_digest(reader.read(row.locator))
        with open(row.locator, "rb", buffering=0) as file:  # noqa: PTH123 (a Path per row doubles the time)
            file.seek(-min(row.size, TAIL_BYTES), os.SEEK_END)
            return tail_digest(file.read())
    except (OSError, ValueError):
        return None  # the image store names rows that cannot be read


def _whole(row: SourceRow, reader: Reader) -> bytes | None:
    try:
        return blake2b(reader.read(row.locator), digest_size=16).digest()
    except (OSError, ValueError):
        return None
