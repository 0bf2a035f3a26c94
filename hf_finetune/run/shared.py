"""Whether every process of a run sees the same run folder: rank 0 leaves a mark there, and the others look for it."""

from __future__ import annotations

import os
import platform
import secrets
import time
from contextlib import suppress

from hf_finetune.errors import RunFolderError
from hf_finetune.machine import processes
from hf_finetune.run.folder import RunFolder

SEEN_WITHIN_S, EVERY_S = 10.0, 0.2


def leave_mark(folder: RunFolder) -> str:
    """Write a file whose name nobody has used before; that name. Raises RunFolderError."""
    mark = f"{secrets.token_hex(8)}.partial"  # what a killed process leaves by that ending is in nobody's way
    try:
        (folder.path / mark).touch()
    except OSError as error:
        raise RunFolderError(
            f"output.dir: {folder.path} cannot be written: {error.strerror or error}.", "Choose another output.dir."
        ) from None
    return mark


def refuse_unshared(folder: RunFolder, mark: str) -> None:
    """Raise RunFolderError, on every rank, where one of them does not see rank 0's mark; rank 0 removes it."""
    seen = processes.gather((_sees(folder, mark), f"{folder.path.absolute()} on {platform.node()}"))
    if processes.is_first():
        (folder.path / mark).unlink(missing_ok=True)
    others = [f"rank {rank} has {place}" for rank, (sees_it, place) in enumerate(seen) if not sees_it]
    if others:
        raise RunFolderError(
            f"output.dir: one folder for all processes is expected; rank 0 has {seen[0][1]}, {', '.join(others)}.",
            "Name a folder on storage that all machines share, as a whole path.",
        )


def _sees(folder: RunFolder, mark: str) -> bool:
    """Whether it is there, or comes soon. Folders are listed, which asks a file server anew; a name that was not there
    a moment ago may be answered from the client's memory (nfs(5), lookupcache)."""
    until = time.monotonic() + SEEN_WITHIN_S
    while True:
        with suppress(OSError):
            os.listdir(folder.path.parent)  # noqa: PTH208
            if mark in os.listdir(folder.path):  # noqa: PTH208
                return True
        if time.monotonic() > until:
            return False
        time.sleep(EVERY_S)
