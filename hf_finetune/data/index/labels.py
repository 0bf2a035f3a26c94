"""Label names and ids: encodes what the source gives, and checks it between the splits.

Ids are positions in `Labels.names`. A ClassLabel's order is kept; other labels are sorted, whole numbers by value and
anything else as text. Nothing is ever parsed: "n/a", "True" and "007" are class names like any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.source import RawLabel, SourceRow, count, listing, plain
from hf_finetune.errors import DataError
from hf_finetune.labels import Labels
from hf_finetune.types import Note, Rejected, Split

NO_LABEL = "no label"
Labelled = tuple[SourceRow, int]  # a row and its label's id


def encode(
    splits: Mapping[Split, Sequence[SourceRow]],
    label_names: tuple[str, ...] | None,
    known: tuple[str, ...] = (),
) -> tuple[Labels, dict[Split, list[Labelled]], list[Rejected]]:
    """Label names in order, the rows with ids by split, and the rows that cannot have one. `known`: of a result, whose
    ids they get.

    Nothing is raised here; `check_between_splits` does.
    """
    names = label_names if label_names is not None else known or _sorted_names(splits)
    ids = {name: number for number, name in enumerate(names)}
    rows: dict[Split, list[Labelled]] = {}
    rejected: list[Rejected] = []
    for split, found in splits.items():
        kept = rows[split] = []
        for row in found:
            if is_missing(row.label):
                rejected.append(Rejected(row.name, split, NO_LABEL))
            elif label_names is not None and isinstance(row.label, int):
                if 0 <= row.label < len(names):
                    kept.append((row, row.label))
                else:
                    reason = f"label {row.label} is outside the {len(names):,} classes of the dataset"
                    rejected.append(Rejected(row.name, split, reason))
            elif (name := text_of(row.label)) in ids:
                kept.append((row, ids[name]))
            else:
                rejected.append(Rejected(row.name, split, f"{name!r} is none of the classes {listing(names)}"))
    return Labels(names), rows, rejected


def check_between_splits(labels: Labels, rows: Mapping[Split, Sequence[Labelled]], source: str) -> list[Note]:
    """Notes on classes that only some splits have, and on names that are hard to tell apart.

    Raises DataError where training has fewer than two classes, or another split has a class that training lacks.
    """
    present: dict[Split, set[int]] = {split: {label for _, label in found} for split, found in rows.items()}
    train = present["train"]
    if len(train) < 2:
        only = f"only {labels.names[next(iter(train))]!r}" if train else "none"
        raise DataError(
            f"data.name: at least two classes are needed in the training split of {source}, found {only}",
            "put the images of each class into a folder of its own, or set data.label_column to the column that tells "
            "the classes apart",
        )
    notes = []
    for split, found in present.items():
        _refuse_unknown(split, found - train, labels, train)
        if missing := sorted(train - found):
            names = [labels.names[number] for number in missing]
            notes.append(Note(f"{split} has no row of {count(len(names), 'class', 'classes')}: {listing(names)}"))
    if unused := sorted(set(range(len(labels.names))).difference(*present.values())):
        names = [labels.names[number] for number in unused]
        notes.append(Note(f"no row at all of {count(len(names), 'class', 'classes')}: {listing(names)}"))
    folded = Counter(name.casefold().strip() for name in labels.names)
    if alike := [name for name in labels.names if folded[name.casefold().strip()] > 1]:
        apart = "classes that differ only in case or blanks are kept apart (data.join_alike=true joins them)"
        notes.append(Note(f"{apart}: {listing(map(repr, alike))}"))
    return notes


def _refuse_unknown(split: Split, unknown: set[int], labels: Labels, train: set[int]) -> None:
    if not unknown:
        return
    names = [labels.names[number] for number in sorted(unknown)]
    folded = {labels.names[number].casefold().strip(): labels.names[number] for number in train}
    close = [f"{name!r} ({folded[name.casefold().strip()]!r})" for name in names if name.casefold().strip() in folded]
    hint = f"make label names equal in every split, or set data.{split}_split to another split"
    if close:
        alike = f"these differ only in case or blanks from a class of train: {listing(close)}"
        hint = f"{alike}; set data.join_alike=true to join them, or {hint}"
    raise DataError(
        f"data.{split}_split: every class of {split} must be in train, found "
        f"{count(len(names), 'class', 'classes')} that train lacks: {listing(map(repr, names))}",
        hint,
    )


def text_of(label: RawLabel) -> str:
    """The class name of a raw label."""
    return plain(label) if isinstance(label, str) else str(label)


def _sorted_names(splits: Mapping[Split, Sequence[SourceRow]]) -> tuple[str, ...]:
    raw = {row.label for found in splits.values() for row in found}
    return in_order({text_of(label) for label in raw if not is_missing(label)})


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Whole numbers by value, anything else as text."""
    if all(re.fullmatch(r"-?[0-9]+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
