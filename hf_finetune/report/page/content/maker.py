"""Makes the pictures of a page while there is time: what would not fit is left out, and named."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from hf_finetune.errors import FinetuneError, reason_of
from hf_finetune.report.page.content.evidence import Evidence, Images
from hf_finetune.report.page.structure import Figure, Gallery, Part, Table, Thumb
from hf_finetune.report.page.thumbnails import thumbnail

T = TypeVar("T")
Lines = Callable[[int], tuple[str, ...]]  # what is said below the image of a row
# Assumption: seconds that the first chart, a further one and an image take on a slow core. Measured 2026-11-29 on an
# AMD EPYC: 0.45 (the import of matplotlib), 0.1, 0.0005.
_FIRST_CHART_S, _CHART_S, _IMAGE_S = 0.8, 0.15, 0.002


class Maker:
    """`seconds` from now are for charts and images; texts and tables are always made. `left_out`: what had no time."""

    def __init__(self, seconds: float = np.inf) -> None:
        self._until = time.monotonic() + seconds
        self._charts = 0
        self.left_out: list[str] = []

    def chart(self, caption: str, draw: Callable[[str], str], table: Table, note: str = "") -> Part:
        """A figure of what `draw` makes of a name of its own, or the table alone."""
        first = "matplotlib.figure" not in sys.modules
        picture = self.if_time(f"the chart “{caption}”", _FIRST_CHART_S if first else _CHART_S, self._drawn(draw))
        if picture is None:
            return replace(table, note=f"{table.note} {note}".strip())
        return Figure(caption, picture, replace(table, folded=False), note)

    def _drawn(self, draw: Callable[[str], str]) -> Callable[[], str]:
        self._charts += 1
        name = f"chart-{self._charts}"
        return lambda: draw(name)

    def gallery(
        self,
        caption: str,
        evidence: Evidence,
        chosen: Sequence[int],
        lines: Lines,
        note: str = "",
    ) -> tuple[Gallery, ...]:
        """Thumbnails of some rows with what `lines` says of each; none where there is no row, image or time."""
        images = evidence.images
        if images is None:
            return ()
        rows = [row for row in chosen if images.there[row]]
        if not rows:
            return ()
        what = f"the images “{caption}”"
        gathered = self.if_time(what, _IMAGE_S * len(rows), lambda: self._read(what, images, rows))
        if gathered is None:
            return ()
        thumbs = (
            Thumb(evidence.names[row], thumbnail(each), lines(row)) for row, each in zip(rows, gathered, strict=True)
        )
        return (Gallery(caption, tuple(thumbs), note),)

    def _read(self, what: str, images: Images, rows: list[int]) -> np.ndarray | None:
        try:
            return images.gather(np.asarray(rows, np.int64))
        except (FinetuneError, OSError) as error:  # moved away since the run scored them
            self.left_out.append(f"{what} ({reason_of(error)})")
            return None

    def if_time(self, what: str, cost_s: float, make: Callable[[], T]) -> T | None:
        """What `make` gives, which takes about `cost_s`; else None, and it is noted."""
        if time.monotonic() + cost_s > self._until:
            self.left_out.append(f"{what} (no time)")
            return None
        return make()
