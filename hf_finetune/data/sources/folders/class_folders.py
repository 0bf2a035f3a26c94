"""Rows of images that lie in class folders, with or without split folders, and the notes on what is left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.folders.layout import Layout, Parts, decide
from hf_finetune.data.sources.folders.walk import Files, ignored_files
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES, TABLE_SUFFIXES
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.regular import why_no_file
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow, count, file_row, listing, plain
from hf_finetune.data.sources.split_names import is_meant, read_splits, split_in
from hf_finetune.errors import DataError
from hf_finetune.types import Note


def layout_of(root: Path, files: Files, config: Data) -> Layout:
    """How the images of a folder are laid out. Raises DataError with a question where it cannot be told."""
    return _decide(root, list(_places(root, files).values()), config)[0]


def read_class_folders(root: Path, files: Files, config: Data) -> Source:
    """The rows of a folder by split and class. Raises DataError where it holds no images in class folders."""
    if not files.images and not files.links:
        held = f"{count(len(files.others), 'other file')}" if files.others else "nothing"
        raise DataError(
            f"data.name: images are expected below {root}, found {held}",
            f"recognised are {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    places = _places(root, files)
    layout, ignored = _decide(root, list(places.values()), config)
    places = {name: parts for name, parts in places.items() if not (ignored and _is_ignored(parts, config))}
    splits: dict[str, list[SourceRow]] = {name: [] for name in layout.splits or ("train",)}
    if layout.joined:
        splits.setdefault("train", [])
    rejected: list[SourceRejected] = []
    stray: list[str] = []
    unlabelled: dict[str, list[str]] = {}
    elsewhere: Counter[str] = Counter()
    for name, entry in [*files.images, *((name, None) for name in files.links)]:
        if (parts := places.get(name)) is None:
            continue
        split, label = layout.split(parts), layout.label(parts)
        if split is None:
            elsewhere[parts[layout.split_level - 1] if len(parts) > layout.split_level else "the folder itself"] += 1
        elif label is None:
            unlabelled.setdefault(split, []).append(name)
        elif entry is None:
            rejected.append(SourceRejected(plain(name), split, why_no_file(str(root / name))))
        else:
            try:
                stat = entry.stat()
            except OSError as error:
                rejected.append(SourceRejected(plain(name), split, f"file cannot be read: {error.strerror}"))
                continue
            splits[split].append(file_row(plain(name), plain(label), entry.path, stat))
    for split, names in unlabelled.items():
        if splits[split] or not layout.split_level:
            stray += names
        else:  # a split folder of images without class folders: rows without a label
            splits[split] = [SourceRow(plain(name), None, str(root / name)) for name in names]
    if not layout.split_level:
        _refuse_layout(root, files, list(places.values()), layout, stray, asked=config.class_level is not None)
    notes = _notes(files, stray, elsewhere) + _empty_classes(root, files, layout, config)
    return Source(
        str(root),
        splits,
        FileReader(),
        bool(layout.split_level),
        rejected=tuple(rejected),
        notes=tuple(notes),
        classes_given=True,
        layout=_described(layout),
        left_out=ignored,
    )


def _decide(root: Path, places: Sequence[Parts], config: Data) -> tuple[Layout, Counter[str]]:
    """The layout, and how many images `data.ignore_splits` leaves out of it by their folder at the top.

    An ignored folder tells what the others are (`training_set` beside `test_set`), where it is a split among splits.
    """
    ignored = Counter(parts[0] for parts in places if _is_ignored(parts, config))
    if ignored:
        try:
            layout = decide(root, places, config)
        except DataError:
            layout = None
        if layout is not None and layout.split_level:
            return layout, Counter()
    return decide(root, [parts for parts in places if not _is_ignored(parts, config)], config), ignored


def _is_ignored(parts: Parts, config: Data) -> bool:
    return len(parts) > 1 and is_meant(parts[0], config.ignore_splits)


def _described(layout: Layout) -> str:
    text = "class folders"
    if layout.class_level > (2 if layout.split_level == 1 else 1):
        text += f" at level {layout.class_level}"
    if not layout.split_level:
        return text
    return f"{text}, split folders {listing(map(plain, layout.splits))}"


def _places(root: Path, files: Files) -> dict[str, Parts]:
    """The parts of each image's name, without folders that only repeat the name of the one that holds them."""
    names = [*(name for name, _ in files.images), *files.links]
    shorten = _shortener(root, names)
    return {name: (*shorten(tuple(name.split("/")[:-1])), name.rpartition("/")[2]) for name in names}


def _shortener(root: Path, names: Iterable[str]) -> Callable[[Parts], Parts]:
    """Drops a folder of its parent's own name that is all that the parent holds: archives often unpack so."""
    inside: defaultdict[Parts, set[str]] = defaultdict(set)
    for name in names:
        parts = tuple(name.split("/"))
        for depth in range(len(parts) - 1):
            inside[parts[:depth]].add(parts[depth])
        inside[parts[:-1]].add("")  # an image lies here
    known: dict[Parts, Parts] = {}

    def shorten(folders: Parts) -> Parts:
        if folders not in known:
            kept: list[str] = []
            for depth, name in enumerate(folders):
                above = folders[depth - 1] if depth else root.name
                if inside[folders[:depth]] != {name} or name.casefold() != above.casefold():
                    kept.append(name)
            known[folders] = tuple(kept)
        return known[folders]

    return shorten


def _refuse_layout(
    root: Path, files: Files, places: Sequence[Parts], layout: Layout, stray: Sequence[str], *, asked: bool
) -> None:
    """Refuses a folder without splits whose folders are not classes, naming what may have been meant."""
    tables = sorted(name for name in files.others if "/" not in name and Path(name).suffix.lower() in TABLE_SUFFIXES)
    hint = "put the images of each class into a folder of its own, or name a table with a label column in data.name"
    tables = [name for name in tables if split_in(Path(name).stem) in (None, "train")]  # never to train on a test
    if tables:
        train = next((name for name in tables if split_in(Path(name).stem) == "train"), tables[0])
        hint = f"did you mean the table data.name={root / train}?"
    ignored = "".join(f" ({note})" for note in ignored_files(files))
    top = sorted({label for parts in places if (label := layout.label(parts)) is not None})
    if not top:
        raise DataError(
            f"data.name: a folder for each class is expected below {root}, found {count(len(stray), 'image')} "
            f"and no class folder{ignored}",
            hint,
        )
    if layout.class_level > 1 or (asked and len(top) > 1):
        return
    reads = read_splits(top)
    if len(reads) == len(top) and len(top) > 1:
        raise DataError(f"data.name: class folders are expected in {listing(top)} of {root}, found images only", hint)
    if len(top) == 1:
        inner = sorted({parts[1] for parts in places if len(parts) > 2})
        if split_in(top[0]) in (None, "train"):
            if len(inner) > 1 and not stray:
                hint = f"it holds {listing(inner)}: did you mean data.name={root / top[0]}?"
        else:
            hint = f"{top[0]} reads like a test split, not for training: give the folder that holds the training split"
        raise DataError(
            f"data.name: at least two class folders are expected below {root}, found only {top[0]}{ignored}",
            hint,
        )


def _notes(files: Files, stray: list[str], elsewhere: Counter[str]) -> list[Note]:
    notes = ignored_files(files)
    if stray:
        text = f"{count(len(stray), 'image')} ignored that are in no class folder"
        notes.append(Note(text, listing(map(plain, stray))))
    if elsewhere:
        texts = listing(f"{plain(name)} ({count(number, 'image')})" for name, number in sorted(elsewhere.items()))
        notes.append(Note("images ignored that are in no split folder", texts))
    return notes


def _empty_classes(root: Path, files: Files, layout: Layout, config: Data) -> list[Note]:
    """Notes on class folders without an image. Raises DataError for one in train."""
    held = {name.rpartition("/")[0] for name, _ in files.images} | {name.rpartition("/")[0] for name in files.links}
    with_images = {folder for name in held for folder in _upwards(name)}
    with_others = {folder for name in files.others for folder in _upwards(name.rpartition("/")[0])}
    shorten = _shortener(root, [*(name for name, _ in files.images), *files.links])
    reads = read_splits(layout.splits)
    empty = []
    for name in sorted(files.folders - with_images):
        parts = (*shorten(tuple(name.split("/"))), "")
        split = layout.split(parts)
        if split is None or _is_ignored(parts, config) or len(parts) - 1 != layout.class_level:
            continue
        is_train = split == config.train_split or (config.train_split is None and "train" in (split, reads.get(split)))
        if is_train and name not in with_others:
            raise DataError(
                f"data.name: every class folder of train must hold an image, found none in {name}",
                "add images to it, or remove the folder",
            )
        empty.append(plain(name))
    return [Note(f"{count(len(empty), 'folder')} without an image", listing(empty))] if empty else []


def _upwards(folder: str) -> list[str]:
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
