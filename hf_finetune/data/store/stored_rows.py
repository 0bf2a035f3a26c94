"""Rows that lie decoded in a file of the store. Does not own how the file came to be (`build.py`, `cache.py`)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np

from hf_finetune.data.store.cache import PIXELS, Entry
from hf_finetune.data.store.views import Geometry, row_bytes
from hf_finetune.errors import DataError
from hf_finetune.types import Row, label_array

logger = logging.getLogger(__name__)
Redraw = Callable[[int], np.ndarray]  # slot -> uint8 [3, height, width]; raises DataError


@final
class StoredRows:
    """PixelRows over a file of the store. Picklable where `redraw` is: another process maps the same file.

    `changed_s`: when pixels of it last changed, as `time.time()` counts; 0: never since they were decoded.

    Each row is held to its CRC when it is first read. A damaged one is drawn again by `redraw` and put right in the
    file; checking costs a fiftieth of a millisecond for 224 × 224 pixels.
    """

    def __init__(self, rows: Sequence[Row], entry: Entry, geometry: Geometry, redraw: Redraw) -> None:
        kept = kept_slots(len(rows), entry)
        self.labels = label_array([rows[slot] for slot in kept])
        self.names = [rows[slot].name for slot in kept]
        self.sizes = np.ascontiguousarray(entry.sizes[kept], dtype=np.int32)
        self.changed_s = entry.changed_s
        self._slots, self._crcs, self._redraw = kept, entry.crcs, redraw
        self._unread = np.ones(len(rows), bool)
        self._path = (entry.folder or Path()) / PIXELS
        self._shape, self._row_bytes = (len(rows), *geometry.shape), row_bytes(geometry)
        self._pixels = self._map()

    def _map(self) -> np.ndarray:
        if not self._shape[0]:
            return np.empty(self._shape, np.uint8)  # an empty file cannot be mapped
        return np.memmap(self._path, np.uint8, "r", shape=self._shape)

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = self._map()

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), 3, height, width], a fresh array. Raises DataError where a damaged row cannot be drawn
        again."""
        slots = self._slots[np.asarray(indices, dtype=np.int64)]
        pixels = np.asarray(self._pixels[slots])
        for place in np.flatnonzero(self._unread[slots]):
            slot = int(slots[place])
            if zlib.crc32(pixels[place]) != self._crcs[slot]:
                pixels[place] = self._mended(slot)
            self._unread[slot] = False
        return pixels

    def _mended(self, slot: int) -> np.ndarray:
        name = self.names[int(np.searchsorted(self._slots, slot))]
        logger.warning("the image store holds %s damaged; it is drawn again", name)
        pixels = self._redraw(slot)
        if zlib.crc32(pixels.tobytes()) != self._crcs[slot]:
            raise DataError(
                f"data.cache_dir: the image store holds {name} damaged, and the image is not what it was",
                "run again with --no-cache, or remove the store with `hf-finetune cache clear`",
            )
        with suppress(OSError), self._path.open("rb+") as file:  # on a disk that can only be read each run mends it
            file.seek(slot * self._row_bytes)
            file.write(pixels.tobytes())
        return pixels


def kept_slots(rows: int, entry: Entry) -> np.ndarray:
    """int64: the slots whose rows can be used, in the index's order."""
    return np.array([slot for slot in range(rows) if slot not in entry.rejected], dtype=np.int64)
