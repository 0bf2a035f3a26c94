"""Rows that are decoded again each time they are asked for: what a dataset too large for the disk gets.

The pixels are those of the store. Does not decide when this is needed (`store.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np

from hf_finetune.data.store.decode import READ_ERRORS, reason_of
from hf_finetune.data.store.views import Geometry
from hf_finetune.errors import DataError
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.types import Reader, Row, Split, label_array


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
        self._locators = [row.locator for row in rows]
        self._reader, self._geometry, self._max_pixels = reader, geometry, max_pixels
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

    def _draw(self, row: int) -> np.ndarray:
        try:
            data = self._reader.read(self._locators[row])
            return self._geometry.draw(data, self._max_pixels).pixels
        except READ_ERRORS as error:
            raise DataError(
                f"data.name: {self.names[row]} ({self.split}) was readable when the run began, and is not now: "
                f"{reason_of(error)}",
                "leave the images in place while a run uses them; give data.store_limit more room to decode them once",
            ) from error
