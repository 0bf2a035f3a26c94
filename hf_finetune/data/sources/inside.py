"""Whether the files that rows name lie inside the dataset: a path in a table, or a link, may lead anywhere.

A dataset of one's own may be put together so; one from somebody else has no business with other files of this machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow, count, listing
from hf_finetune.types import Note

OUTSIDE = "outside of the dataset's folder (data.inside)"


def held_inside(source: Source, config: Data, roots: Sequence[str | Path], *, from_hub: bool) -> Source:
    """The source with rows whose file lies in none of the folders `roots` rejected, or counted in a note: as
    `config.inside` says; where it does not, those of a dataset `from_hub` are rejected."""
    place = _Inside(roots)
    outside = {id(row) for rows in source.splits.values() for row in rows if not place.holds(row.locator)}
    if not outside:
        return source
    names = [row.name for rows in source.splits.values() for row in rows if id(row) in outside]
    if not (from_hub if config.inside is None else config.inside):
        text = f"{count(len(names), 'image')} outside of the dataset's folder, by paths or links that lead there"
        return replace(source, notes=(*source.notes, Note(text, listing(names, 3))))
    kept: dict[str, list[SourceRow]] = {}
    rejected = list(source.rejected)
    for split, rows in source.splits.items():
        kept[split] = [row for row in rows if id(row) not in outside]
        rejected += [SourceRejected(row.name, split, OUTSIDE) for row in rows if id(row) in outside]
    return replace(source, splits=kept, rejected=tuple(rejected))


class _Inside:
    """The folders that files may lie in. Each folder's real place is asked for once."""

    def __init__(self, roots: Sequence[str | Path]) -> None:
        self._roots = tuple(os.path.join(os.path.realpath(root), "") for root in roots)  # noqa: PTH118
        self._real: dict[str, str] = {}

    def holds(self, locator: str | int) -> bool:
        """Whether a row's file is there by its real place; rows that are no files are."""
        if isinstance(locator, int):
            return True
        folder, name = os.path.split(locator)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        is_link = os.path.islink(locator)  # noqa: PTH114 (a Path per row doubles the time)
        real = os.path.realpath(locator) if is_link else os.path.join(self._real[folder], name)  # noqa: PTH118
        return real.startswith(self._roots)
