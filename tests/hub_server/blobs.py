"""The content of one repo's files, each kept once under its SHA-256, and never half of one.

Owns the folder of blobs and the folder of what is still being received. Content gets its name by a rename, after size
and hash were found right; what breaks off is deleted. Knows no paths of a repo and no HTTP.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20


class BlobError(Exception):
    """The content is not what was announced."""


def read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


class Blobs:
    """Content by SHA-256 below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder.with_name("incoming")

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the content is here, with this size if one is given."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            return False
        path = self.path(sha256)
        return path.is_file() and (size is None or path.stat().st_size == size)

    def names(self) -> set[str]:
        """The SHA-256 of everything that is here."""
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()

    def incoming(self) -> list[Path]:
        """What is being received right now; a broken-off upload leaves nothing here."""
        return sorted(self._incoming.iterdir()) if self._incoming.is_dir() else []

    def add(self, blocks: Iterable[bytes], *, sha256: str | None = None, size: int | None = None) -> tuple[str, int]:
        """Keep content; SHA-256 and size in bytes. Raises BlobError if either is not the announced one."""
        with self._receiving() as (file, path):
            digest = hashlib.sha256()
            for block in blocks:
                digest.update(block)
                file.write(block)
            file.flush()
            received, found = file.tell(), digest.hexdigest()
            if size is not None and received != size:
                raise BlobError(f"{size} bytes were announced, {received} came")
            if sha256 is not None and found != sha256:
                raise BlobError(f"content with SHA-256 {sha256} was announced, {found} came")
            self.folder.mkdir(parents=True, exist_ok=True)
            path.replace(self.path(found))
        return found, received

    def copy_to(self, sha256: str, target: Path) -> None:
        """Put the content at `target`, where a reader sees the old file or the new one."""
        with self._receiving() as (file, path):
            with self.path(sha256).open("rb") as source:
                shutil.copyfileobj(source, file, BLOCK)
            file.flush()
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)

    @contextmanager
    def _receiving(self) -> Iterator[tuple[BinaryIO, Path]]:
        self._incoming.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)
