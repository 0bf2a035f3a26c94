"""Uploads of large files: what was announced, the parts that came, and the blob that they become.

Owns the sessions between the LFS batch request and the blob; the address of an upload is its key, as with the signed
addresses that the real Hub hands out. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from math import ceil

from tests.hub_server.blobs import BlobError, Blobs, read_blocks
from tests.hub_server.repo import Repo


@dataclass
class Upload:
    """One announced blob of a repo. `chunk_bytes`: size of a part, None for one whole; `parts`: ETag by number."""

    key: str
    repo: Repo
    sha256: str
    size: int
    chunk_bytes: int | None
    parts: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return ceil(self.size / self.chunk_bytes) if self.chunk_bytes else 1

    @property
    def _staged(self) -> Blobs:
        return Blobs(self.repo.state / f"parts-{self.key}" / "blobs")

    def put(self, blocks: Iterable[bytes]) -> str:
        """Take the whole content; its ETag. Raises BlobError."""
        return self.repo.blobs.add(blocks, sha256=self.sha256, size=self.size)[0]

    def put_part(self, number: int, blocks: Iterable[bytes]) -> str:
        """Take part `number`, counted from 1; its ETag. One that comes again replaces the first. Raises BlobError."""
        if self.chunk_bytes is None or not 1 <= number <= self.count:
            raise BlobError(f"there is no part {number} of {self.count}")
        size = self.chunk_bytes if number < self.count else self.size - self.chunk_bytes * (self.count - 1)
        self.parts[number] = self._staged.add(blocks, size=size)[0]
        return self.parts[number]

    def complete(self, listed: list[tuple[int, str]]) -> None:
        """Make the blob of the parts, which the client lists with their ETags. Raises BlobError."""
        if self.repo.blobs.has(self.sha256, self.size):
            return  # asked again: the first answer was lost
        if listed != [(number, self.parts.get(number)) for number in range(1, self.count + 1)]:
            raise BlobError(f"the {self.count} parts with their ETags were expected in order, {len(listed)} came")
        staged = self._staged
        blocks = chain.from_iterable(read_blocks(staged.path(etag)) for _, etag in listed)
        self.repo.blobs.add(blocks, sha256=self.sha256, size=self.size)
        shutil.rmtree(staged.folder.parent)


class Uploads:
    """The uploads of one server. Files of `multipart_bytes` or more come in parts of `chunk_bytes`; tests set both."""

    def __init__(self) -> None:
        self.multipart_bytes = 5_000_000_000  # what S3 takes in one piece
        self.chunk_bytes = 64 << 20
        self._lock = threading.Lock()
        self._open: dict[str, Upload] = {}

    def open(self, repo: Repo, sha256: str, size: int, *, multipart: bool) -> Upload:
        """Announce a blob. `multipart`: the client can send parts."""
        chunk = self.chunk_bytes if multipart and size >= self.multipart_bytes else None
        upload = Upload(secrets.token_hex(8), repo, sha256, size, chunk)
        with self._lock:
            self._open[upload.key] = upload
        return upload

    def find(self, key: str) -> Upload | None:
        with self._lock:
            return self._open.get(key)
