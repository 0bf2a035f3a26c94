"""The members of a tar that somebody else made: names, places and sizes, and what is damaged.

`tarfile` reads the headers. Nothing is extracted, no link followed and no name opened; of a header that asks for more
than any name or attribute has, and of one that is damaged, only the place is said, and reading goes on behind it.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, final

from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER_BYTES = 1 << 20  # a long name and the attributes beside it; tarfile would read what the header says
MOST_DAMAGES = 100  # in one tar; behind them nothing more is looked for
_PIECE = 2048 * BLOCK
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar. `offset`: of its bytes; `fault`: why they cannot be used."""

    name: str
    offset: int
    size: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a tar that cannot be read, and why."""

    offset: int
    reason: str


def open_shard(path: Path) -> BinaryIO:
    """The file, to be read. Raises OSError, also for a pipe, which would be waited for, or a device."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no file (a pipe or a device)", str(path))
    return path.open("rb")


def read_members(path: Path) -> Iterator[Member | Damage]:
    """Every file of a tar in order, folders left out; a damaged place stands among them.

    Raises OSError, and DataError for a compressed one, whose members cannot be read each by itself, and for one that is
    cut off or has no header: how many images such a tar lacks nobody knows, so that no share of bad rows counts
    them.
    """
    with open_shard(path) as file:
        _refuse_packed(path, file.read(8))
        length = file.seek(0, os.SEEK_END)
        start, damages = 0, 0
        while True:
            walk = _Walk(file, start, length)
            yield from walk
            if walk.cut_in:
                raise _broken(path, f"is cut off: the file ends at byte {length:,}, inside {walk.cut_in}")
            if walk.damage is None:
                return
            found = _next_header(file, walk.damage.offset // BLOCK * BLOCK + BLOCK)
            if walk.damage.offset == 0 and found is None:
                what = "is no tar, or damaged from byte 0 on: no header of a member is in it"
                raise _broken(path, what if length else "is empty")
            yield walk.damage
            damages += 1
            if found is None or damages == MOST_DAMAGES:
                return
            start = found


@final
class _Walk:
    """Goes from header to header, until the end or the first that cannot be read: `damage` says of the second, and
    `cut_in` inside what the file ends."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self.damage: Damage | None = None
        self.cut_in = ""

    def __iter__(self) -> Iterator[Member]:
        end = self._start
        self._file.seek(self._start)
        try:
            with tarfile.open(fileobj=_Bounded(self._file), mode="r:") as tar:  # pyright: ignore[reportArgumentType]
                while (found := tar.next()) is not None:
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - it keeps each header
                    if found.offset < end or found.size < 0:
                        raise tarfile.ReadError("a header that leads backwards")
                    end = found.offset_data + (-(-found.size // BLOCK) * BLOCK if found.isreg() else 0)
                    if found.issparse():  # its size is with the holes, which are not in the tar
                        end = tar.offset
                    if end > self._length:
                        self.cut_in = f"the member {one_line(found.name)}"
                        return
                    if not found.isdir():
                        yield Member(found.name, found.offset_data, found.size, self._fault(found))
        except (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError):
            self._damaged(max(end, self._start))
            return
        self._look_behind(end)

    def _look_behind(self, end: int) -> None:
        """tarfile takes a damaged header for the end: what stands there tells the two apart."""
        self._file.seek(end)
        block = self._file.read(BLOCK)
        if not block:
            self.damage = Damage(self._length, "it ends without the mark of an end")
        elif block.count(0) != len(block) or (end == 0 and _next_header(self._file, BLOCK) is not None):
            self._damaged(end)

    def _damaged(self, offset: int) -> None:
        if offset and self._length - offset < BLOCK:
            self.cut_in = "the header of a member"
        else:
            self.damage = Damage(offset, "a damaged header")

    def _fault(self, found: tarfile.TarInfo) -> str:
        if found.issparse():
            return "a sparse file, whose bytes are not in one piece"
        if not found.isreg():
            return f"{_KINDS.get(found.type, 'of an unknown kind')}, no file"
        return ""


class _Bounded(io.RawIOBase):
    """A file of which no more is read at once than a header may take."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _next_header(file: BinaryIO, start: int) -> int | None:
    """Where the next header stands that has a mark and a true sum; None where there is none."""
    file.seek(start)
    while piece := file.read(_PIECE):
        for place in range(0, len(piece) - BLOCK + 1, BLOCK):
            if piece[place + 257 : place + 262] == b"ustar" and _is_header(piece[place : place + BLOCK]):
                return start + place
        start += len(piece)
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _broken(path: Path, what: str) -> DataError:
    return DataError(
        f"data.name: whole tar shards are expected, found {one_line(str(path))}, which {what}",
        "get it again (download it once more), or move it away to train without its images",
    )


def _refuse_packed(path: Path, head: bytes) -> None:
    if packed := next((name for mark, name in _PACKED.items() if head.startswith(mark)), None):
        unpack = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd"}[packed]
        raise DataError(
            f"data.name: shards that are not compressed are expected, since an image is read at its place; found "
            f"{path}, which is {packed}",
            f"`{unpack} --keep` makes the plain .tar of it (photos hardly grow), or unpack it into class folders",
        )
