"""Labels that are grades: in the order that the recipe gives, or whole numbers by their value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hf_finetune.data.index.labels import NO_LABEL, Labelled, text_of
from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.source import SourceRow, count, listing
from hf_finetune.errors import DataError
from hf_finetune.types import Rejected, Split

_MOST = 100  # grades; more are quantities
_SHOWN = 8  # grades in a key to copy


def encode_grades(
    found: Mapping[Split, Sequence[SourceRow]], label_names: tuple[str, ...] | None, order: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[Split, list[Labelled]], list[Rejected]]:
    """The grades from the lowest up, rows with their places, and the rows that cannot have one; `where`: the key of the
    recipe that gives the order. Raises DataError where it is needed and not given."""

    def name_of(row: SourceRow) -> str:
        if label_names is not None and isinstance(row.label, int) and 0 <= row.label < len(label_names):
            return label_names[row.label]
        return text_of(row.label).strip() if isinstance(row.label, str | int) else str(row.label)

    seen = {name_of(row) for its in found.values() for row in its if not is_missing(row.label)}
    names = order or _by_value(seen, where)
    places = {name: place for place, name in enumerate(names)}
    rows: dict[Split, list[Labelled]] = {}
    rejected: list[Rejected] = []
    for split, its in found.items():
        kept = rows[split] = []
        for row in its:
            if is_missing(row.label):
                rejected.append(Rejected(row.name, split, NO_LABEL))
            elif (name := name_of(row)) in places:
                kept.append((row, places[name]))
            else:
                rejected.append(Rejected(row.name, split, f"{name!r} is none of the grades {listing(names)}"))
    return names, rows, rejected


def _by_value(seen: set[str], where: str) -> tuple[str, ...]:
    if not all(re.fullmatch(r"-?[0-9]+", name) for name in seen):
        raise DataError(
            f"{where}: the grades from the lowest up are expected, since they are no whole numbers; found "
            f"{count(len(seen), 'text')}: {listing(sorted(seen))}",
            f"set {where}=[{', '.join(sorted(seen))}] with them in their order"
            if len(seen) <= _SHOWN
            else f"set {where} to all of them in their order, or task.kind=regression if they are numbers",
        )
    if len(seen) > _MOST:
        raise DataError(
            f"task.kind: grades are at most {_MOST}, found {len(seen):,} different numbers",
            "set task.kind=regression, or name the grades in task.order",
        )
    return tuple(sorted(seen, key=int))
