"""Reads image files, and nothing else that has a path: a named pipe in a table would be waited for without an end."""

from __future__ import annotations

import os
import stat

# Opening a named pipe to read waits for whoever writes into it, unless it is opened so; files do not mind.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_regular(path: str) -> bytes:
    """A file's bytes. Raises OSError, also where there is a pipe, a device or a folder."""
    with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"no file, but {_kind(os.fstat(file.fileno()).st_mode)}")
        return file.read()


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a named pipe", stat.S_ISDIR: "a folder", stat.S_ISSOCK: "a socket"}
    return next((name for is_one, name in kinds.items() if is_one(mode)), "a device")
