"""Images that are no pictures of anything: placeholders, empty pages, a black frame; and odd shapes and grey ones."""

from __future__ import annotations

import numpy as np

# Bits of a picture's colours below which it is nearly one colour, and the share of the median of all below which it is
# so beside them: drawings on white are all plain. A photo has 2 to 8, "this photo is no longer available" .5.
_PLAIN, _BESIDE_OTHERS = 1.0, 0.25
_SMALL_SHARE = 0.25  # of the median edge, below which an image is small beside the others
_LONG, _LONG_BESIDE_OTHERS = 3.0, 2.0  # edges' ratio, and that beside the median
_FEW = 0.05  # share of rows that may be grey among colours, or coloured among grey ones, to be worth a word
_COLOUR = 2.0  # 8-bit levels between the channels, on the mean


def placeholders(entropy: np.ndarray) -> np.ndarray:
    """bool [N] of bits float [N]."""
    if not len(entropy):
        return np.zeros(0, bool)
    return entropy < min(_PLAIN, _BESIDE_OTHERS * float(np.median(entropy)))


def odd_shapes(sizes: np.ndarray, least: int) -> dict[int, str]:
    """What is odd about some rows' width and height, int [N, 2]; `least`: the shorter edge that the model asks for."""
    if not len(sizes):
        return {}
    edges = sizes.astype(np.float64)
    short, ratio = edges.min(1), edges.max(1) / np.maximum(1, edges.min(1))
    usual, usual_ratio = float(np.median(short)), float(np.median(ratio))
    found = {}
    for row in np.flatnonzero((short < _SMALL_SHARE * usual) & (short < least)):
        found[int(row)] = f"{sizes[row][0]} × {sizes[row][1]} pixels, where {usual:.0f} is the usual shorter edge"
    for row in np.flatnonzero((ratio > _LONG) & (ratio > _LONG_BESIDE_OTHERS * usual_ratio)):
        strip = f"{sizes[row][0]} × {sizes[row][1]} pixels, a strip: its ends are cut off or squeezed"
        found[int(row)] = f"{found[int(row)]}; {strip}" if int(row) in found else strip
    return found


def odd_colours(colour: np.ndarray) -> tuple[np.ndarray, str]:
    """The few rows that are grey among coloured ones, or the other way round, int64, and what they are."""
    grey = colour < _COLOUR
    if 0 < grey.sum() <= _FEW * len(grey):
        return np.flatnonzero(grey), "grey, where nearly all others have colours"
    if 0 < (~grey).sum() <= _FEW * len(grey):
        return np.flatnonzero(~grey), "in colour, where nearly all others are grey"
    return np.zeros(0, np.int64), ""
