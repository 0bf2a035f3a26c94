"""Training rows that are decoded when they are first gathered: a run that never trains at full depth never pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from hf_finetune.errors import DataError
from hf_finetune.types import PixelRows


@final
class LateRows:
    """PixelRows with the labels, names and original sizes of `known`, and the pixels of what `open_rows` gives.

    Raises DataError at the first `gather` where some of the images can no longer be read.
    """

    def __init__(self, known: PixelRows, open_rows: Callable[[], PixelRows]) -> None:
        self.labels, self.names, self.sizes = known.labels, known.names, known.sizes
        self._open_rows = open_rows
        self._rows: PixelRows | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), 3, height, width], a fresh array."""
        if self._rows is None:
            rows = self._open_rows()
            if rows.names != self.names:
                lost = sorted(set(self.names) - set(rows.names))
                raise DataError(
                    f"{len(lost)} training images could be read when the run began, and no longer: {lost[:3]}.",
                    "Leave the data as they are while a run goes on.",
                )
            self._rows = rows
        return self._rows.gather(indices)
