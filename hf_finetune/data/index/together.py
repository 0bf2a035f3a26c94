"""Which rows belong together: byte-equal ones, and groups (all pictures of a patient) by a column or by their names.

Owns finding them, joining what overlaps, and the notes on what given splits have torn apart. Cutting is `splits.py`'s.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from hf_finetune.data.config import Data
from hf_finetune.data.index import duplicates
from hf_finetune.data.index.targets import Encoded, Labelled
from hf_finetune.data.sources.source import Source, SourceRow, count, listing
from hf_finetune.errors import DataError
from hf_finetune.labels import label_text
from hf_finetune.types import Note, Row


@dataclass(frozen=True)
class Together:
    """`units`: positions (over all splits in order) of rows that belong together, two or more each, no row in two.
    `key`: of the recipe, where it asks for groups. `leaks`: notes on given splits that have torn some apart. `unit_of`:
    which of the units a row is in."""

    units: list[list[int]]
    key: str | None
    notes: list[Note]
    leaks: list[Note]
    unit_of: dict[SourceRow, int]

    def rows(self, labelled: Iterable[Labelled]) -> tuple[Row, ...]:
        """As they stand in the index."""
        return tuple(Row(row.name, label, row.locator, self.unit_of.get(row, -1)) for row, label in labelled)


def find_together(source: Source, encoded: Encoded, config: Data) -> Together:
    """Raises DataError where no row has the group that the recipe asks for."""
    everything = [(split, row, label) for split, part in encoded.rows.items() for row, label in part]
    equal = duplicates.equal_rows([row for _, row, _ in everything], source.reader)
    described = [
        [(everything[n][0], label_text(encoded.columns, everything[n][2]), everything[n][1].name) for n in positions]
        for positions in equal
    ]
    leaks = duplicates.describe(described)
    groups, notes = _groups([row for _, row, _ in everything], config, source.name)
    units = join([*equal, *groups.values()])
    unit_of = {everything[position][1]: number for number, unit in enumerate(units) for position in unit}
    torn = _torn(groups, [split for split, _, _ in everything])
    return Together(units, config.group_key, notes, leaks + torn, unit_of)


def _groups(rows: Sequence[SourceRow], config: Data, source: str) -> tuple[dict[str, list[int]], list[Note]]:
    """The positions of each group's rows, if the recipe asks for groups, and notes. Raises DataError where there is
    none."""
    if config.group_key is None:
        return {}, []
    groups: defaultdict[str, list[int]] = defaultdict(list)
    alone: list[str] = []
    of_name = None if config.group_pattern is None else re.compile(config.group_pattern)
    for position, row in enumerate(rows):
        if (group := row.group if of_name is None else group_in(of_name, row.name)) is None:
            alone.append(row.name)
        else:
            groups[group].append(position)
    if not groups and of_name is not None:
        raise DataError(
            f"data.group_pattern: names of rows that match {config.group_pattern} are expected in {source}, found none "
            f"among {listing(alone, 3)}",
            "mend the expression; it may match anywhere in the name",
        )
    if not groups:
        raise DataError(
            f"data.group_column: values are expected in column {config.group_column!r} of {source}, found none",
            "name another column, or leave data.group_column out",
        )
    wanted = "whose name matches no group" if of_name is not None else f"without {config.group_column}"
    own = f"{count(len(alone), 'row')} {wanted}, each taken for a group of its own"
    told = f"kept together: {count(len(groups), 'group')}"
    return dict(groups), [
        Note(f"{told} of {config.group_column}") if of_name is None else Note(told, f"by {config.group_pattern}"),
        *([Note(own, listing(alone))] if alone else []),
    ]


def group_in(pattern: re.Pattern[str], name: str) -> str | None:
    """What a name belongs to: the named group `group`, else the first group, else the whole match; None where it is
    empty or none."""
    if (found := pattern.search(name)) is None:
        return None
    return found["group" if "group" in pattern.groupindex else min(1, pattern.groups)] or None


def _torn(groups: dict[str, list[int]], split_of: Sequence[str]) -> list[Note]:
    """Notes on groups that are in two of the given splits."""
    notes = []
    for one, other in combinations(dict.fromkeys(split_of), 2):
        torn = {name: its for name, its in groups.items() if {one, other} <= {split_of[n] for n in its}}
        if torn:
            rows = sum(split_of[n] in (one, other) for its in torn.values() for n in its)
            found = f"{count(len(torn), 'group')} ({count(rows, 'row')}) found on both sides of {one} and {other}"
            notes.append(Note(f"{found}: scores there say too much", listing(torn)))
    return notes


def join(sets: Iterable[Sequence[int]]) -> list[list[int]]:
    """Sets that share a member, directly or by others, become one; those of one member are left out. Sorted."""
    above: dict[int, int] = {}

    def root(member: int) -> int:
        while (upper := above.setdefault(member, member)) != member:
            above[member] = member = above[upper]
        return member

    for members in sets:
        for member in members:
            above[root(member)] = root(members[0])
    joined: defaultdict[int, list[int]] = defaultdict(list)
    for member in sorted(above):
        joined[root(member)].append(member)
    return [members for members in joined.values() if len(members) > 1]
