"""A picture of predicted against true numbers, for the model card: a square a number, the diagonal where all would lie.

Drawn with Pillow at twice its size and scaled down, which smooths lines and dots.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_finetune.units import format_quantity

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIDE, _LEFT, _BELOW, _ABOVE, _RIGHT = 360, 84, 56, 34, 18  # pixels of a square, and around it
_FINER = 2
_INK, _PALE, _DOT = "#1f2328", "#d0d7de", (9, 105, 218, 150)
_MOST_DOTS = 5_000


@dataclass(frozen=True)
class Scatter:
    """Numbers of the same rows, finite; `log`: both axes are logarithmic, all numbers above 0."""

    title: str
    true: Sequence[float]
    predicted: Sequence[float]
    log: bool = False


def draw(panels: Sequence[Scatter]) -> bytes:
    """A PNG of the panels beside each other. Raises ValueError where there are none."""
    from PIL import Image, ImageDraw

    if not panels:
        raise ValueError("at least one panel is expected")
    width, height = _LEFT + _SIDE + _RIGHT, _ABOVE + _SIDE + _BELOW
    picture = Image.new("RGB", (_FINER * width * len(panels), _FINER * height), "white")
    for number, panel in enumerate(panels):
        _draw_panel(ImageDraw.Draw(picture, "RGBA"), panel, number * width)
    found = io.BytesIO()
    picture.resize((width * len(panels), height), Image.Resampling.LANCZOS).save(found, "PNG", optimize=True)
    return found.getvalue()


def _draw_panel(draw: ImageDraw, panel: Scatter, shift: int) -> None:
    from PIL import ImageFont

    def at(x: float, y: float) -> tuple[float, float]:
        """Pixels of a place in the square, both 0 to 1, y upwards."""
        return _FINER * (shift + _LEFT + x * _SIDE), _FINER * (_ABOVE + (1 - y) * _SIDE)

    font = ImageFont.load_default(12 * _FINER)
    values = [*panel.true, *panel.predicted]
    ticks = _log_ticks(min(values), max(values)) if panel.log else _ticks(min(values), max(values))
    low, high = min(*values, ticks[0]), max(*values, ticks[-1])

    def place(value: float) -> float:
        if panel.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    for tick in ticks:
        here, text = place(tick), format_quantity(tick)
        draw.line([at(here, 0), at(here, 1)], _PALE, _FINER)
        draw.line([at(0, here), at(1, here)], _PALE, _FINER)
        x, y = at(here, 0)
        draw.text((x, y + 6 * _FINER), text, _INK, font, anchor="ma")
        x, y = at(0, here)
        draw.text((x - 6 * _FINER, y), text, _INK, font, anchor="rm")
    draw.line([at(0, 0), at(1, 1)], _INK, _FINER)
    step = -(-len(panel.true) // _MOST_DOTS)
    for true, predicted in list(zip(panel.true, panel.predicted, strict=True))[::step]:
        x, y = at(place(true), place(predicted))
        radius = 3 * _FINER
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), _DOT)
    draw.rectangle((*at(0, 1), *at(1, 0)), outline=_INK, width=_FINER)
    x, y = at(0.5, 1)
    draw.text((x, y - 10 * _FINER), panel.title, _INK, font, anchor="ms")
    x, y = at(0.5, 0)
    draw.text((x, y + 30 * _FINER), "true (across), predicted (up)", _INK, font, anchor="ma")


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers, the first below the lowest and the last above the highest."""
    if high <= low:
        low, high = low - 1, high + 1
    rough = (high - low) / 4
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Of 1, 2 and 5 times the powers of ten as many as there is room for, around the numbers."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        below = max(place for place, mark in enumerate(marks) if mark <= low)
        above = min(place for place, mark in enumerate(marks) if mark >= high)
        found = marks[below : max(above, below + 1) + 1]
        if len(found) <= 6:
            return found
    return found[:: -(-len(found) // 6)]
