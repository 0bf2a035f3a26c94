"""Rows that are decoded when they are first gathered."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.data.store.late_rows import LateRows
from hf_finetune.errors import DataError
from tests.training.rows import MemoryRows


def test_pixels_come_from_the_other_view_opened_once() -> None:
    known, pixels = MemoryRows(7, 8), MemoryRows(7, 12, seed=1)
    opened: list[int] = []

    def open_rows() -> MemoryRows:
        opened.append(1)
        return pixels

    rows = LateRows(known, open_rows)
    assert (len(rows), rows.names) == (7, known.names)
    np.testing.assert_array_equal(rows.labels, known.labels)
    assert not opened
    for chosen in ([0, 3], [6]):
        np.testing.assert_array_equal(rows.gather(np.array(chosen)), pixels.pixels[chosen])
    assert len(opened) == 1


def test_images_that_went_away_meanwhile_are_named() -> None:
    rows = LateRows(MemoryRows(7, 8), lambda: MemoryRows(6, 8))
    with pytest.raises(DataError, match=r"1 training images could be read .*row6\.png"):
        rows.gather(np.array([0]))
