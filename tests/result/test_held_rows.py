"""The rows that a push is held to: read back as written, and as runs before 2026-11-29 left them."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.result.held_rows import Held, read_held, write_held

PIXELS, LOGITS = np.ones((6, 3, 2, 2), np.uint8), np.ones((6, 4), np.float32)


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_held(tmp_path / "held.npz", Held(PIXELS, LOGITS, "cpu", 4))
    *arrays, device, batch = astuple(read_held(tmp_path / "held.npz"))
    assert all(np.array_equal(one, other) for one, other in zip(arrays, (PIXELS, LOGITS), strict=True))
    assert (device, batch) == ("cpu", 4)


@pytest.mark.parametrize("rows", [6, 1])
def test_older_ones_were_answered_all_at_once(tmp_path: Path, rows: int) -> None:
    np.savez(tmp_path / "held.npz", pixels=PIXELS[:rows], logits=LOGITS[:rows], device=np.array("cuda"))
    assert read_held(tmp_path / "held.npz").batch == rows
