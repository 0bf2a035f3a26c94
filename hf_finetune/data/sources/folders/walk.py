"""Lists what lies below a folder: image files, other files, folders. Owns what counts as an image and what is hidden.

Lists every directory once with `os.scandir`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.data.sources.source import count, listing
from hf_finetune.errors import DataError
from hf_finetune.types import Note

IGNORED_NAMES = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"))


@dataclass(frozen=True)
class Files:
    """What a walk found: image files by folder, and what else was there."""

    images: list[tuple[str, os.DirEntry[str]]] = field(default_factory=list)  # (path below the root, entry)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # images by name that are no files
    folders: set[str] = field(default_factory=set)


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
            if _leads_nowhere(entry):
                (files.links if _is_image(name) else files.others).append(name)
            elif entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in above:
                    files.folders.add(name)
                    pending.append((entry.path, name + "/", (*above, real)))
            elif not _is_image(name):
                files.others.append(name)
            elif entry.is_file():
                files.images.append((name, entry))
            else:
                files.links.append(name)
    files.images.sort(key=lambda found: found[0])
    return files


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (Path is 10 times slower)


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link in a circle, of which the system will not even say what it is."""
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except FileNotFoundError:
        return False  # a link to nothing is neither a folder nor a file
    except OSError:
        return True
    return False


def _list(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except PermissionError as error:
        raise DataError(
            f"data.name: no permission to read {folder}", "change its permissions, or move it away"
        ) from error


def ignored_files(files: Files) -> list[Note]:
    """One note on the files that are no images, by suffix; none where there are none."""
    if not files.others:
        return []
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in files.others)
    texts = listing(f"{kind} {number:,}" for kind, number in sorted(kinds.items()))
    return [Note(f"{count(len(files.others), 'file')} ignored that are not images by suffix", texts)]
