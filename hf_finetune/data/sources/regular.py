"""Reads image files, and nothing else that has a path: a named pipe in a table would be waited for without an end."""

from __future__ import annotations

import errno
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


def why_no_file(path: str) -> str:
    """What stands at a path where no file does: `a named pipe`, `a link to a device`, `a link in a circle`, …."""
    link = "a link to " * os.path.islink(path)  # noqa: PTH114 (this module starts in each worker)
    try:
        return link + _kind(os.stat(path).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        return f"{link}a file that does not exist" if link else "nothing"
    except OSError as error:
        circle = link and error.errno == errno.ELOOP
        return "a link in a circle" if circle else f"{link}something that cannot be looked at ({error.strerror})"


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a named pipe", stat.S_ISDIR: "a folder", stat.S_ISSOCK: "a socket", stat.S_ISREG: "a file"}
    return next((name for is_one, name in kinds.items() if is_one(mode)), "a device")
