"""Tables in a folder that describe its images: `metadata` files, or any table at its top that names files in it.

Owns the choice between such a table and the folders themselves; the question where both could be meant is asked here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.folders.class_folders import layout_of
from hf_finetune.data.sources.folders.walk import Files
from hf_finetune.data.sources.naming import TABLE_SUFFIXES
from hf_finetune.data.sources.source import Source, count, listing, plain
from hf_finetune.data.sources.split_names import gives_training, read_splits
from hf_finetune.data.sources.tables.rows import Opened, open_table, read_tables, trains
from hf_finetune.errors import DataError
from hf_finetune.types import Note

_COLUMNS = ("label_column", "image_column", "split_column", "group_column")  # keys that only a table can serve
_METADATA = tuple(f"metadata{suffix}" for suffix in TABLE_SUFFIXES)
Tables = list[tuple[Opened, str | None]]


def is_metadata(name: str) -> bool:
    """Whether a file is called as the Hub's image folders call their tables."""
    return name.rpartition("/")[2].lower() in _METADATA


def read_described(root: Path, files: Files, config: Data) -> Source | None:
    """The rows by the tables of a folder; None where none describes its images, or where the folders do.

    Raises DataError with a question where both could be meant.
    """
    if not files.images:
        return None
    metadata = sorted(name for name in files.others if is_metadata(name))
    if metadata:
        placed = _split_folders(files, metadata, config)
        tables = [(open_table(root / name, config, split, deep=True), split) for name, split in placed]
    else:
        tables = _tables_at_top(root, files, config)
    if not tables or not _gives_labels(root, files, tables, config, sure=bool(metadata)):
        return None
    source = read_tables(tables, root, config, name=str(root))
    used = {row.name for rows in source.splits.values() for row in rows}
    left = [plain(name) for name, _ in files.images if plain(name) not in used]
    if not left:
        return source
    note = Note(f"{count(len(left), 'image')} ignored that no row of the table names", listing(left))
    return replace(source, notes=(*source.notes, note))


def _split_folders(files: Files, metadata: Sequence[str], config: Data) -> list[tuple[str, str | None]]:
    """Each table with the split folder that it lies in."""
    tops = {name.partition("/")[0] for name in files.folders}
    asked = (config.train_split, config.validation_split, config.test_split, *config.ignore_splits)
    named = {name.casefold() for name in asked if name}
    splits = {*read_splits(tops), *(top for top in tops if top.casefold() in named)}
    found = [(name, name.partition("/")[0] if "/" in name else None) for name in metadata]
    return [(name, top if top in splits else None) for name, top in found]


def _tables_at_top(root: Path, files: Files, config: Data) -> Tables:
    """The tables that name files of the folder: one, or one a split. Raises DataError where it cannot be told which."""
    found: dict[str, Opened] = {}
    at_top = [name for name in sorted(files.others) if "/" not in name and Path(name).suffix.lower() in TABLE_SUFFIXES]
    stems = read_splits(Path(name).stem for name in at_top)
    for name in at_top:
        try:
            opened = open_table(root / name, config, Path(name).stem if gives_training(stems) else None, deep=True)
            column = opened.find(config, needs_label=False).image
        except DataError:
            continue  # some other table; `refuse_layout` names it where nothing else gives labels
        if any(opened.files.holds_all([cell]) for cell in opened.values(column)[:20]):
            found[name] = opened
    reads = read_splits(Path(name).stem for name in found)
    if gives_training(reads):
        return [(opened, Path(name).stem) for name, opened in found.items() if Path(name).stem in reads]
    if len(found) > 1:
        labelled = [name for name, opened in found.items() if any(map(columns.is_usual_label, opened.kinds))]
        if len(labelled) != 1:
            raise DataError(
                f"data.name: one table that describes the images is expected in {root}, found {listing(found)}",
                f"set data.name to one of them, such as {root / next(iter(found))}, or data.class_level=1 if the "
                "folders are the classes",
            )
        found = {labelled[0]: found[labelled[0]]}
    return [(opened, None) for opened in found.values()]


def _gives_labels(root: Path, files: Files, tables: Tables, config: Data, *, sure: bool) -> bool:
    """Whether the tables, rather than the folders, tell the classes."""
    if any(getattr(config, field) is not None for field in _COLUMNS):
        return True
    usual = [any(map(columns.is_usual_label, opened.kinds)) for opened, _ in tables]
    folders = _classes(root, files, config)
    if len(folders) < 2 or (sure and all(usual)):
        return True
    training = next((opened for opened, split in tables if trains(split, config)), tables[0][0])
    try:
        label = ", ".join(training.find(config).labels)
    except DataError:
        if any(usual):
            raise  # such as `label` beside `class`: to be asked for
        return False
    values = {} if label is None else training.values(label)
    if label is None or len(values) < 2 or 2 * len(values) > len(training.table.records):
        return False
    if columns.is_usual_label(label) or {value.casefold() for value in values} == {name.casefold() for name in folders}:
        return True
    if len({re.sub(r"[0-9]+", "", name).strip(" _-.").casefold() for name in folders}) == 1:
        return True  # part_1, part_2: the folders differ in nothing but a number
    raise DataError(
        f"data.label_column: either a table or the folders tell the classes of {root}, found column {label!r} of "
        f"{training.table.path.name} with {listing(values)}, and the folders {listing(sorted(folders))}",
        f"set data.label_column={label}; or data.class_level=1 if the folders are the classes",
    )


def _classes(root: Path, files: Files, config: Data) -> set[str]:
    """The class folders; none where folders alone would not tell."""
    try:
        layout = layout_of(root, files, config)
    except DataError:
        return set()
    labels = (layout.label(tuple(name.split("/"))) for name, _ in files.images)
    return {label for label in labels if label is not None}
