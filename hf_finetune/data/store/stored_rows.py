"""Rows that lie decoded in a file of the store. Does not own how the file came to be (`build.py`, `cache.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from hf_finetune.data.store.cache import PIXELS, Entry
from hf_finetune.data.store.views import Geometry
from hf_finetune.types import Row, label_array


@final
class StoredRows:
    """PixelRows over a file of the store. Picklable: another process maps the same file."""

    def __init__(self, rows: Sequence[Row], entry: Entry, geometry: Geometry) -> None:
        kept = kept_slots(len(rows), entry)
        self.labels = label_array([rows[slot] for slot in kept])
        self.names = [rows[slot].name for slot in kept]
        self.sizes = np.ascontiguousarray(entry.sizes[kept], dtype=np.int32)
        self._slots = kept
        self._path = (entry.folder or Path()) / PIXELS
        self._shape = (len(rows), *geometry.shape)
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
        """uint8 [len(indices), 3, height, width], a fresh array."""
        return np.asarray(self._pixels[self._slots[np.asarray(indices, dtype=np.int64)]])


def kept_slots(rows: int, entry: Entry) -> np.ndarray:
    """int64: the slots whose rows can be used, in the index's order."""
    return np.array([slot for slot in range(rows) if slot not in entry.rejected], dtype=np.int64)
