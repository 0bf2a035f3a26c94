"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its name at the end.

    Where the writing fails (a full disk, Ctrl-C) what was at `path` stays, and nothing else is left. The place is the
    process's own. Raises what the writing and the renaming raise, OSError.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text, with its line ends as they are. Raises OSError."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
