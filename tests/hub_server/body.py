"""The body of a request as it comes off the connection: by length or in chunks, and perhaps broken off.

Owns the reading and nothing of the meaning, so that a blob of any size is never held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import Message
from typing import Any, BinaryIO

from tests.hub_server.blobs import BLOCK


class BrokenBodyError(Exception):
    """The connection ended, or was ended on purpose, before the whole body had come."""


class Body:
    """One request's body, read once."""

    def __init__(self, stream: BinaryIO, headers: Message) -> None:
        self._stream = stream
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._length = int(headers.get("Content-Length") or 0)
        self._break_at: int | None = None
        self._blocks = self._read()

    @property
    def expected(self) -> bool:
        """Whether the request has a body."""
        return self._chunked or self._length > 0

    def break_off(self) -> None:
        """Let the reading fail half-way; one in chunks, whose length nobody knows, after its first byte."""
        self._break_at = self._length // 2

    def blocks(self) -> Iterator[bytes]:
        """What has not been read yet. Raises BrokenBodyError."""
        return self._blocks

    def read(self) -> bytes:
        return b"".join(self._blocks)

    def json(self) -> Any:
        """The body's JSON value. Raises ValueError."""
        return json.loads(self.read() or b"{}")

    def drain(self) -> None:
        """Read what nobody asked for, so that the connection can serve the next request."""
        for _ in self._blocks:
            pass

    def _read(self) -> Iterator[bytes]:
        if not self._chunked:
            yield from self._exactly(self._length)
            return
        while size := int(self._line() or b"", 16):
            yield from self._exactly(size)
            self._line()
        while self._line():  # trailers
            pass

    def _line(self) -> bytes:
        line = self._stream.readline(BLOCK)
        if not line.endswith(b"\n"):
            raise BrokenBodyError
        return line.strip()

    def _exactly(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            part = left if self._break_at is None else min(left, max(self._break_at, 1))
            block = self._stream.read(min(BLOCK, part))
            if not block:
                raise BrokenBodyError
            left -= len(block)
            yield block
            if self._break_at is not None:
                self._break_at -= len(block)
                if self._break_at <= 0:
                    raise BrokenBodyError
