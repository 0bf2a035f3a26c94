"""High-bit grey images (16 or 32 bits, floating point): which of their values become black and white.

One scale for a whole data set: a scale taken from each image by itself would make a dark image look like a light one.
Owns the rule by which the scale is chosen from values that were seen, and its application. Does not own looking at the
training rows (`data/value_range.py`), nor what stock code makes of them (`report/value_range.py`). numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_finetune.types import ValueRange

# Depths that cameras, scanners and CT write; 8 bits because tools save those in 16-bit files, too.
_BITS = (8, 10, 12, 14, 16)
_BLOCK = 1 << 22  # values that are scaled at once, in float64


@dataclass(frozen=True)
class Seen:
    """Lowest and highest value of an image; `whole`: all of its values are whole numbers; `is_float`: their type."""

    low: float
    high: float
    whole: bool
    is_float: bool


def is_high_bit(mode: str) -> bool:
    """Whether a Pillow mode holds grey values beyond 8 bits."""
    return mode in ("I", "F") or mode.startswith("I;16")


def to_grey8(values: np.ndarray, value_range: ValueRange) -> tuple[np.ndarray, int]:
    """Values [H, W] of any type → uint8 [H, W], and how many lay beyond the range and were clipped.

    `rint(clip((value − low) · 255 / (high − low), 0, 255))` in float64: the card's lines do the same.
    """
    low, high = value_range
    flat = values.reshape(-1)
    result = np.empty(flat.shape, np.uint8)
    clipped = 0
    for start in range(0, len(flat), _BLOCK):
        part = flat[start : start + _BLOCK]
        clipped += int(np.count_nonzero((part < low) | (part > high)))
        scaled = (part.astype(np.float64) - low) * 255 / (high - low)
        result[start : start + _BLOCK] = np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return result.reshape(values.shape), clipped


def choose(seen: Sequence[Seen]) -> tuple[ValueRange, str]:
    """The scale for images that hold such values, and why.

    Whole numbers from 0: the fewest bits of 8, 10, 12, 14 and 16 that hold the highest. Floats within 0 … 1: these.
    Anything else (negative values, 32 bits, other floats): from the lowest to the highest value that was seen.
    """
    low, high = min(each.low for each in seen), max(each.high for each in seen)
    if all(each.is_float for each in seen) and low >= 0 and high <= 1:
        return (0.0, 1.0), "they are floats within 0 … 1"
    if all(each.whole for each in seen) and low >= 0:
        for bits in _BITS:
            if high < 2**bits:
                return (0.0, float(2**bits - 1)), f"the highest is {high:g}, which takes {bits} bits"
    if high == low:
        high = low + 1
    return (low, high), "the lowest and the highest of them"
