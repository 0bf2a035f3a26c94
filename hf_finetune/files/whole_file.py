"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its name at the end, once it lies on the disk.

    Where the writing fails (a full disk, Ctrl-C) what was at `path` stays, and nothing else is left. The place is the
    process's own. Raises what the writing and the renaming raise, OSError.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text, with its line ends as they are. Raises OSError."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def sync_file(path: Path) -> None:
    """Wait until a file's bytes lie on the disk: a system may else rename it first, and find it empty after a power
    cut. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_tree(folder: Path) -> None:
    """The same of every file below a folder, before it takes another name."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """The same of the names in a folder, where the system can (Windows cannot, nor every network disk)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
