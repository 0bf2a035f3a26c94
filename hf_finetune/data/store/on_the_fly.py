"""Rows that are decoded again each time they are asked for: what a dataset too large for the disk gets.

The pixels are those of the store. Does not decide when this is needed (`store.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from hf_finetune.data.store.decode import READ_ERRORS, reason_of
from hf_finetune.data.store.views import Geometry
from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.types import Reader, Row, Split, label_array


@dataclass(frozen=True)
class Redraw:
    """Draws a row of a split anew, in this process."""

    rows: Sequence[Row]
    reader: Reader
    geometry: Geometry
    split: Split
    max_pixels: int

    def __call__(self, slot: int) -> np.ndarray:
        """uint8 [3, height, width]. Raises DataError, naming the row."""
        row = self.rows[slot]
        try:
            return self.geometry.draw(self.reader.read(row.locator), self.max_pixels).pixels
        except READ_ERRORS as error:
            raise DataError(
                f"data.name: {one_line(row.name)} ({self.split}) was readable when the run began, and is not now: "
                f"{reason_of(error)}",
                "leave the images in place while a run uses them; give data.store_limit more room to decode them once",
            ) from error


@final
class OnTheFlyRows:
    """PixelRows without a store. All rows were checked once before, so that bad ones are known from the start.

    Threads, not processes: Pillow decodes and resizes without the interpreter's lock, and no pixels need to travel.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        sizes: np.ndarray,
        reader: Reader,
        geometry: Geometry,
        *,
        split: Split,
        max_pixels: int,
        workers: int,
    ) -> None:
        self.labels = label_array(rows)
        self.sizes = np.ascontiguousarray(sizes, dtype=np.int32)
        self.names = [row.name for row in rows]
        self.split = split
        self._geometry, self._draw = geometry, Redraw(rows, reader, geometry, split, max_pixels)
        self._workers = workers if geometry.in_workers else 1
        self._threads: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None}

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), 3, height, width], decoded now. Raises DataError naming a row that fails by now."""
        result = np.empty((len(indices), *self._geometry.shape), np.uint8)
        places = [int(index) for index in indices]
        with quiet_pillow():
            if self._workers == 1:
                for place, row in enumerate(places):
                    result[place] = self._draw(row)
                return result
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
            for place, pixels in enumerate(self._threads.map(self._draw, places)):
                result[place] = pixels
        return result
