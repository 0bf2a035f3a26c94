"""A few images opened before anything is decoded: what a person who checks a data set expects to be told.

Owns which rows are tried. Every row is read when the store is built, which names all that are broken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_finetune.data.store.decode import READ_ERRORS, reason_of
from hf_finetune.files.visible import one_line
from hf_finetune.preprocess.pixels import open_rgb, quiet_pillow
from hf_finetune.types import SPLITS, Index, Rejected

MOST = 32


@dataclass(frozen=True)
class Opened:
    """`tried` of `of` rows were read and decoded; `broken`: those that could not be."""

    tried: int
    of: int
    broken: tuple[Rejected, ...]

    def __str__(self) -> str:
        which = f"{self.tried:,} of {self.of:,} images, spread over all"
        if not self.broken:
            return f"{which}: they can be read"
        named = "; ".join(one_line(f"{row.name}: {row.reason}") for row in self.broken)
        return f"{which}: {len(self.broken):,} cannot be read ({named})"


def open_some(index: Index, max_pixels: int, most: int = MOST) -> Opened:
    """Read and decode at most so many rows, evenly over those of all splits."""
    rows = [(split, row) for split in SPLITS for row in index.splits.get(split, ())]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)) if rows else ()
    broken = []
    with quiet_pillow():
        for split, row in (rows[at] for at in chosen):
            try:
                open_rgb(index.reader.read(row.locator), max_pixels)
            except READ_ERRORS as error:
                broken.append(Rejected(row.name, split, reason_of(error)))
    return Opened(len(chosen), len(rows), tuple(broken))
