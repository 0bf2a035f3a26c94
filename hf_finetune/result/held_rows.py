"""A few rows of a run's validation split with the logits that its verified result gave: what a later push is held to.

`held.npz` stays in the run folder and is never published: it holds pixels of the user's images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_finetune.errors import AdapterError
from hf_finetune.files.whole_file import whole_file


@dataclass(frozen=True)
class Held:
    """pixels uint8 [N, 3, H, W], logits float32 [N, C], the type of device (`cpu`, `cuda`, …) that gave them, and how
    many images at a time: LLM.int8's answers depend on that, and its copies are large."""

    pixels: np.ndarray
    logits: np.ndarray
    device: str
    batch: int


def write_held(path: Path, held: Held) -> None:
    """Write through a temporary file beside it."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, pixels=held.pixels, logits=held.logits, device=np.array(held.device), batch=np.array(held.batch))


def read_held(path: Path) -> Held:
    """Read it back. Raises AdapterError where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            pixels = content["pixels"]
            batch = int(content["batch"]) if "batch" in content else len(pixels)  # before 2026-11-29: all at once
            return Held(pixels, content["logits"], str(content["device"]), batch)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise AdapterError(
            f"{path} cannot be read ({type(error).__name__}): the rows that a push is checked with.",
            "Train again with another output.dir; the caches make it short.",
        ) from None
