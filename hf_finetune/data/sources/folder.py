"""A folder on disk: class folders with or without split folders, or the tables that describe its images.

Lists every directory once with `os.scandir` and takes one stat per image. Owns what counts as an image file and what
is ignored; tables inside the folder are read by `table` and `parquet`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES, TABLE_SUFFIXES, refuse_unused, split_of
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow, count, listing, plain
from hf_finetune.errors import DataError
from hf_finetune.types import Note

IGNORED_NAMES = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"))
METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class Files:
    """What a walk found: image files by folder, and what else was there."""

    images: list[tuple[str, os.DirEntry[str]]] = field(default_factory=list)  # (path below the root, entry)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # image names that link to nothing
    folders: set[str] = field(default_factory=set)


def read_folder(root: Path, config: Data, *, name: str | None = None, commit: str | None = None) -> Source:
    """The folder's rows. `name` and `commit` are those of the Hub dataset whose snapshot it is, if it is one.

    Raises DataError where it is empty, unreadable, or in no layout that is known.
    """
    root = root.absolute()
    source = _read(root, config, from_hub=name is not None)
    if name is None:
        return source
    return replace(source, name=name, commit=commit, licence=card_licence(root))


def _read(root: Path, config: Data, *, from_hub: bool) -> Source:
    files = walk(root)
    metadata = sorted(name for name in files.others if Path(name).name.lower() in METADATA_NAMES)
    parquets = sorted(name for name in files.others if name.lower().endswith(".parquet") and name not in metadata)
    if parquets and not files.images:
        from hf_finetune.data.sources.parquet import read_parquet_folder

        if not from_hub:
            refuse_unused(config, str(root), "revision")
        return read_parquet_folder(root, parquets, config)
    if not from_hub:
        refuse_unused(config, str(root), "revision", "config")
    own_splits = _split_folders(files, config)
    has_classes = any(name.count("/") > bool(own_splits) for name, _ in files.images)
    if metadata:
        from hf_finetune.data.sources.table import have_labels, read_tables

        tables = [(root / name, _split_folder_of(name, config)) for name in metadata]
        if config.label_column is not None or not has_classes or have_labels(path for path, _ in tables):
            return read_tables(tables, root, config, name=str(root))
    refuse_unused(config, f"the folder of class folders {root}", "image_column", "label_column")
    return _class_folders(root, files, own_splits, config)


def card_licence(root: Path) -> str | None:
    """The licence in the front matter of the folder's README.md, as the Hub's dataset cards state it."""
    import yaml

    card = root / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        facts = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    licence = facts.get("license") if isinstance(facts, dict) else None
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence


def walk(root: Path) -> Files:
    """Every file below `root`, hidden and system files left out; links to folders are followed, loops are not."""
    files = Files()
    pending: list[tuple[str, str, tuple[str, ...]]] = [(str(root), "", (os.path.realpath(root),))]
    while pending:
        folder, below, above = pending.pop()
        for entry in _list(folder):
            if entry.name.startswith(".") or entry.name.lower() in IGNORED_NAMES:
                continue
            name = below + entry.name
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in above:
                    files.folders.add(name)
                    pending.append((entry.path, name + "/", (*above, real)))
            elif os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122 (Path is 10 times slower)
                files.others.append(name)
            elif entry.is_file():
                files.images.append((name, entry))
            else:
                files.links.append(name)
    files.images.sort(key=lambda found: found[0])
    return files


def _list(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except PermissionError as error:
        raise DataError(
            f"data.name: no permission to read {folder}", "change its permissions, or move it away"
        ) from error


def _class_folders(root: Path, files: Files, own_splits: tuple[str, ...], config: Data) -> Source:
    if not files.images and not files.links:
        held = f"{count(len(files.others), 'other file')}" if files.others else "nothing"
        raise DataError(
            f"data.name: images are expected below {root}, found {held}",
            f"recognised are {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    splits: dict[str, list[SourceRow]] = {name: [] for name in own_splits or ("train",)}
    rejected: list[SourceRejected] = []
    stray: list[str] = []
    unlabelled: dict[str, list[str]] = {}
    elsewhere: Counter[str] = Counter()
    classes: set[tuple[str, str]] = set()
    for name, entry in [*files.images, *((name, None) for name in files.links)]:
        parts = name.split("/")
        split = parts.pop(0) if own_splits else "train"
        if split not in splits:
            elsewhere[split if parts else "the folder itself"] += 1
        elif len(parts) < 2:
            unlabelled.setdefault(split, []).append(name)
        elif entry is None:
            rejected.append(SourceRejected(plain(name), split, "a link to a file that does not exist"))
        else:
            classes.add((split, parts[0]))
            try:
                stat = entry.stat()
            except OSError as error:
                rejected.append(SourceRejected(plain(name), split, f"file cannot be read: {error.strerror}"))
                continue
            label = plain(parts[0])
            splits[split].append(SourceRow(plain(name), label, entry.path, stat.st_size, stat.st_mtime_ns))
    for split, names in unlabelled.items():
        if splits[split] or not own_splits:
            stray += names
        else:  # a split folder of images without class folders: rows without a label
            splits[split] = [SourceRow(plain(name), None, str(root / name)) for name in names]
    if not own_splits:
        _refuse_layout(root, files, splits["train"], stray)
    notes = _notes(files, stray, elsewhere) + _empty_classes(files, classes, own_splits, config)
    return Source(str(root), splits, FileReader(), bool(own_splits), rejected=tuple(rejected), notes=tuple(notes))


def _split_folders(files: Files, config: Data) -> tuple[str, ...]:
    """The split folders, in order; empty where the folders below the root are the classes themselves.

    A folder `train` that holds images directly beside other class folders is a class (bus, car, train).
    """
    named = _named(config)
    with_classes = {name.split("/")[0] for name in files.folders if "/" in name}
    top = sorted(name for name in files.folders if "/" not in name)
    found = [name for name in top if split_of(name) or name.casefold() in named]
    trains = [
        name for name in found if name in with_classes and (split_of(name) == "train" or name.casefold() in named)
    ]
    others = [name for name in top if name not in found]
    if len(found) == 1 and others and config.train_split is None and (trains or found[0] in with_classes):
        held = {name.split("/")[0] for name, _ in files.images}
        if beside := [name for name in others if name in held]:
            raise DataError(
                f"data.train_split: classes in {found[0]} or classes beside it are expected, found both: "
                f"{found[0]} holds "
                f"folders of images, and beside it are {listing(beside)}",
                f"if {found[0]} is the training split, set data.train_split={found[0]}; if it is a class, put "
                f"its images "
                "directly into it",
            )
    if trains:
        return tuple(found)
    return tuple(found) if found and not others and any(name in with_classes for name in found) else ()


def _named(config: Data) -> set[str]:
    return {name.casefold() for name in (config.train_split, config.validation_split, config.test_split) if name}


def _split_folder_of(name: str, config: Data) -> str | None:
    top, _, below = name.partition("/")
    return top if below and (split_of(top) or top.casefold() in _named(config)) else None


def _refuse_layout(root: Path, files: Files, rows: list[SourceRow], stray: list[str]) -> None:
    """Refuses a folder without splits whose folders are not classes, naming what may have been meant."""
    tables = sorted(name for name in files.others if "/" not in name and Path(name).suffix.lower() in TABLE_SUFFIXES)
    hint = "put the images of each class into a folder of its own, or name a table with a label column in data.name"
    hint = f"did you mean the table data.name={root / tables[0]}?" if tables else hint
    ignored = "".join(f" ({note})" for note in _ignored(files))
    top = sorted({row.name.split("/")[0] for row in rows})
    if not top:
        raise DataError(
            f"data.name: a folder for each class is expected below {root}, found {count(len(stray), 'image')} "
            f"and no class folder{ignored}",
            hint,
        )
    if all(split_of(name) for name in top):
        raise DataError(f"data.name: class folders are expected in {listing(top)} of {root}, found images only", hint)
    if len(top) == 1:
        inner = sorted({row.name.split("/")[1] for row in rows if row.name.count("/") > 1})
        if len(inner) > 1 and not stray:
            hint = f"it holds {listing(inner)}: did you mean data.name={root / top[0]}?"
        raise DataError(
            f"data.name: at least two class folders are expected below {root}, found only {top[0]}{ignored}",
            hint,
        )


def _ignored(files: Files) -> list[Note]:
    if not files.others:
        return []
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in files.others)
    texts = listing(f"{kind} {number:,}" for kind, number in sorted(kinds.items()))
    return [Note(f"{count(len(files.others), 'file')} ignored that are not images by suffix", texts)]


def _notes(files: Files, stray: list[str], elsewhere: Counter[str]) -> list[Note]:
    notes = _ignored(files)
    if stray:
        text = f"{count(len(stray), 'image')} ignored that are in no class folder"
        notes.append(Note(text, listing(map(plain, stray))))
    if elsewhere:
        texts = listing(f"{plain(name)} ({count(number, 'image')})" for name, number in sorted(elsewhere.items()))
        notes.append(Note("images ignored that are in no split folder", texts))
    return notes


def _empty_classes(
    files: Files, classes: set[tuple[str, str]], own_splits: tuple[str, ...], config: Data
) -> list[Note]:
    """Notes on class folders without an image. Raises DataError for one in train."""
    depth = 1 if own_splits else 0
    empty = []
    for name in sorted(files.folders):
        parts = name.split("/")
        split = parts[0] if own_splits else "train"
        if len(parts) != depth + 1 or (own_splits and split not in own_splits) or (split, parts[depth]) in classes:
            continue
        holds_files = any(other.startswith(name + "/") for other in files.others)
        is_train = split == config.train_split or (config.train_split is None and split_of(split) == "train")
        if is_train and not holds_files:
            raise DataError(
                f"data.name: every class folder of train must hold an image, found none in {name}",
                "add images to it, or remove the folder",
            )
        empty.append(plain(name))
    return [Note(f"{count(len(empty), 'folder')} without an image", listing(empty))] if empty else []
