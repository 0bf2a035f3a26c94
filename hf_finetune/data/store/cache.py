"""The store's files: where they lie, under which key, when one may be trusted, and how one comes into being whole.

    <cache>/store/<key>/meta.json    what it is; written last, so its presence says that the rest is complete
                        pixels.u8    uint8 [N, 3, height, width]
                        sizes.npy    int32 [N, 2]: width and height of the originals; 0 for a rejected row
                        crc.npy      uint32 [N]: CRC-32 of each row's pixels

meta.json holds a digest of the tables and one of itself; every row is held to its CRC when a run first reads it
(stored_rows.py). Owns keys, validation, the lock and crash-safe building. Does not own decoding, what rows mean, an
entry that is not finished (`unfinished.py`), or what is deleted when (`expiry.py`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from hf_finetune.data.store.expiry import META, sweep
from hf_finetune.data.store.views import RowShape, row_bytes
from hf_finetune.files.journal import digest_of
from hf_finetune.files.whole_file import sync_file, sync_folder, whole_file, write_whole
from hf_finetune.types import Index, Split

logger = logging.getLogger(__name__)

FORMAT = 2
PIXELS, SIZES, CRCS = "pixels.u8", "sizes.npy", "crc.npy"
SAMPLED_ROWS = 16
LARGEST_HEAD = 4096  # bytes before the numbers of a table; numpy writes 128


@dataclass(frozen=True)
class Entry:
    """One complete view on disk, or (`folder` None) one that was only checked: what became of each slot.

    `rejected`: slot -> reason; of those `passing` could not be opened, which another time they may be. `clipped`: slot
    -> values beyond the value range, where there are any. `written_s`: when it was last held to its images, and
    `changed_s` when pixels of it last changed, as `time.time()` counts (0: never).
    """

    folder: Path | None
    sizes: np.ndarray
    crcs: np.ndarray
    rejected: dict[int, str]
    clipped: dict[int, int] = field(default_factory=dict)
    passing: frozenset[int] = frozenset()
    written_s: float = 0.0
    changed_s: float = 0.0


def view_key(index: Index, split: Split, geometry: RowShape, max_pixels: int) -> str:
    """32 hex digits that change with anything that could change a pixel or a row's place.

    Labels are not in it: they are taken from the index.
    """
    head = {
        "format": FORMAT,
        "source": index.source,
        "revision": index.revision,
        "geometry": geometry.key(),
        "max_pixels": max_pixels,
        "pillow": PIL.__version__,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for row in index.splits[split]:
        digest.update(json.dumps([row.name, row.locator]).encode())
    return digest.hexdigest()[:32]


def load_entry(root: Path, key: str, rows: int, geometry: RowShape, *, whole: bool = False) -> Entry | None:
    """The complete entry of `key`, its last use noted; None where there is none or where it cannot be trusted.

    Checked: every field of the description and its digests, the length of the pixels, and the pixels of some rows
    against their CRC; of all rows where the `whole` is asked for.
    """
    folder = root / key
    try:
        entry = _read_entry(folder, key, rows, geometry, whole=whole)
        with suppress(OSError):  # somebody else's, or on a disk that can only be read
            os.utime(folder / META)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - numpy reads a damaged head as Python, which raises whatever it likes
        reason = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        logger.warning("image store %s cannot be trusted (%s); it is built again", key, reason)
        return None
    return entry


def _read_entry(folder: Path, key: str, rows: int, geometry: RowShape, *, whole: bool) -> Entry:
    """Raises OSError, or ValueError saying what is wrong."""
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    if meta.pop("digest") != digest_of(meta):
        raise ValueError("its description is damaged")
    sizes, crcs = (_load_table(folder / name, shape) for name, shape in ((SIZES, (rows, 2)), (CRCS, (rows,))))
    told = {int(slot): (str(reason), bool(passing)) for slot, reason, passing in meta.pop("rejected")}
    clipped = {int(slot): int(values) for slot, values in meta.pop("clipped")}
    written_s, changed_s = float(meta.pop("written_by")["time"]), float(meta.pop("changed"))
    if meta != _description(key, rows, geometry, _digest(sizes, crcs)):
        raise ValueError("its description does not match")
    if (folder / PIXELS).stat().st_size != rows * row_bytes(geometry):
        raise ValueError("its length is wrong")
    rejected = {slot: reason for slot, (reason, _) in told.items()}
    passing = frozenset(slot for slot, (_, passing) in told.items() if passing)
    entry = Entry(folder, sizes, crcs, rejected, clipped, passing, written_s, changed_s)
    _check_rows(
        entry, geometry, range(rows) if whole else sorted({*np.linspace(0, rows - 1, SAMPLED_ROWS).astype(int)})
    )
    return entry


def _load_table(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) > LARGEST_HEAD + 4 * int(np.prod(shape)):  # a damaged head may ask for any size
            raise ValueError("a table's length is wrong")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _description(key: str, rows: int, geometry: RowShape, digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "key": key,
        "rows": rows,
        "geometry": json.loads(json.dumps(geometry.key())),
        "pillow": PIL.__version__,
        "tables": digest,
    }


def _digest(sizes: np.ndarray, crcs: np.ndarray) -> str:
    body = f"{sizes.dtype}{sizes.shape}{crcs.dtype}{crcs.shape}".encode() + sizes.tobytes() + crcs.tobytes()
    return hashlib.sha256(body).hexdigest()


def _check_rows(entry: Entry, geometry: RowShape, slots: Iterable[int]) -> None:
    size = row_bytes(geometry)
    if not size or not len(entry.crcs) or entry.folder is None:
        return
    with (entry.folder / PIXELS).open("rb") as file:
        for slot in slots:
            if slot not in entry.rejected:
                file.seek(int(slot) * size)
                if zlib.crc32(file.read(size)) != entry.crcs[slot]:
                    raise ValueError(f"row {slot} is damaged")


class Building:
    """An entry that is being written in a folder of its own. `pixels` is the file for the workers, at full length."""

    def __init__(self, folder: Path, root: Path, key: str, rows: int, geometry: RowShape) -> None:
        self._folder, self._root, self._key, self._rows, self._geometry = folder, root, key, rows, geometry
        self.pixels = folder / PIXELS

    def publish(self, found: Entry) -> Entry:
        """Puts the entry into place whole, with what was `found` of each slot. Raises OSError."""
        write_tables(self._folder, self._key, self._geometry, found)
        return put_into_place(self._folder, self._root, self._key, found)


def put_into_place(folder: Path, root: Path, key: str, found: Entry) -> Entry:
    """Gives a folder with all files of an entry the entry's name. The lock must be held. Raises OSError."""
    final = root / key
    if final.exists():  # damaged, or load_entry would have found it
        shutil.rmtree(final)
    folder.replace(final)
    sync_folder(root)
    return replace(found, folder=final)


def amend(root: Path, key: str, geometry: RowShape, found: Entry) -> Entry:
    """Writes down what became of an entry's slots since it was published. The caller holds its lock, and has written
    the pixels. Raises OSError."""
    write_tables(root / key, key, geometry, found)
    return found


def write_tables(folder: Path, key: str, geometry: RowShape, found: Entry) -> None:
    """Writes down what became of every slot of the pixels in `folder`. Raises OSError."""
    meta = _description(key, len(found.crcs), geometry, _digest(found.sizes, found.crcs))
    meta["rejected"] = [[slot, reason, slot in found.passing] for slot, reason in sorted(found.rejected.items())]
    meta["clipped"] = [list(each) for each in sorted(found.clipped.items())]
    meta["written_by"] = {"pid": os.getpid(), "host": platform.node(), "time": found.written_s or time.time()}
    meta["changed"] = found.changed_s
    sync_file(folder / PIXELS)
    for name, table in ((SIZES, found.sizes), (CRCS, found.crcs)):
        with whole_file(folder / name) as place, place.open("wb") as file:
            np.save(file, table)
    write_whole(folder / META, json.dumps({**meta, "digest": digest_of(meta)}))


@contextmanager
def building(root: Path, key: str, rows: int, geometry: RowShape) -> Iterator[Building]:
    """Room for a new entry, really allocated; removed again unless it is published. The lock must be held.

    Raises OSError where there is no room or the folder cannot be written.
    """
    sweep(root, key)
    folder = root / f"{key}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        allocate(folder / PIXELS, rows * row_bytes(geometry))
        yield Building(folder, root, key, rows, geometry)
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def allocate(path: Path, length: int) -> None:
    """A file of `length` whose blocks exist where the system can say so: a full disk is then found now, not later."""
    with path.open("wb") as file:
        if length and sys.platform == "linux":
            try:
                os.posix_fallocate(file.fileno(), 0, length)
            except OSError as error:
                # The file system has no such call; writes then find a full disk one by one.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        file.truncate(length)
