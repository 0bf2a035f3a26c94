"""The pictures of the pages. Each gives an `<svg>` element; the table of the same numbers is the caller's.

`name` opens every id within the picture: letters, digits and hyphens, no two alike on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.report.page.svg import HEAT, HEAT_INK, INK, RULE, SERIES, drawn
from hf_finetune.report.page.texts import short
from hf_finetune.units import format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 2_000  # of a scatter; more make a page heavy and say nothing new
MOST_SERIES = len(SERIES)
_MOST_NUMBERED = 12  # classes of a matrix whose cells have room for a number
_LONGEST_TICK = 22
_DARK = 6  # the level of heat from which a cell is darker than half


def bars(name: str, values: Mapping[str, float], *, label: str, marks: Mapping[str, float] | None = None) -> str:
    """A bar for each value, the first on top, and a line across it where `marks` has another value of that name."""
    names, marks = list(values), marks or {}

    def draw(axes: Axes) -> None:
        places = np.arange(len(names))
        axes.barh(places, list(values.values()), color=SERIES[0], height=0.62)
        for place, each in enumerate(names):
            if each in marks:
                axes.plot([marks[each]] * 2, [place - 0.42, place + 0.42], color=SERIES[1], linewidth=2.2)
        axes.set_yticks(places, [short(each, _LONGEST_TICK) for each in names])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        _plain_ticks(axes, "x", False)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)

    return drawn(name, draw, 0.75 + 0.27 * len(names))


def lines(
    name: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    across: str,
    up: str,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """A line for each of at most `MOST_SERIES` series (x, y); `points` are marked and named, with no line between."""

    def draw(axes: Axes) -> None:
        for colour, (each, (x, y)) in zip(SERIES, series.items(), strict=False):
            axes.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=3, label=short(each, _LONGEST_TICK))
        for each, (x, y) in (points or {}).items():
            axes.plot([x], [y], "o", color=SERIES[1], markersize=6)
            axes.annotate(short(each, _LONGEST_TICK), (x, y), (0, 7), textcoords="offset points", ha="center")
        axes.margins(0.12, 0.2)
        axes.grid()
        axes.set(xlabel=across, ylabel=up)
        if len(series) > 1:
            axes.legend()

    return drawn(name, draw)


def matrix(name: str, names: Sequence[str], counts: np.ndarray) -> str:
    """Counts int [C, C], rows what is true and columns what was predicted, coloured by their share of the row."""
    size = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    levels = np.where(counts > 0, np.maximum(1, np.rint(10 * shares)), 0).astype(int)

    def draw(axes: Axes) -> None:
        from matplotlib.colors import ListedColormap

        axes.pcolormesh(levels, cmap=ListedColormap(HEAT), vmin=-0.5, vmax=10.5, edgecolors=RULE, linewidth=0.3)
        if size <= _MOST_NUMBERED:
            for row, column in zip(*np.nonzero(counts), strict=True):
                ink = HEAT_INK if levels[row, column] >= _DARK else INK
                place = column + 0.5, row + 0.5
                axes.text(*place, f"{counts[row, column]:,}", ha="center", va="center", color=ink, fontsize=8)
        ticks, shown = np.arange(size) + 0.5, [short(each, 16) for each in names]
        axes.set_xticks(ticks, shown, rotation=90 if size > 3 and max(map(len, shown)) > 2 else 0)
        axes.set_yticks(ticks, shown)
        axes.tick_params(length=0, labelsize=9 if size <= _MOST_NUMBERED else 7)
        axes.set(xlabel="predicted", ylabel="true", xlim=(0, size), ylim=(size, 0))
        for spine in axes.spines.values():
            spine.set_visible(False)

    return drawn(name, draw, min(5.4, 2.2 + 0.32 * size))


def scatter(name: str, true: np.ndarray, predicted: np.ndarray, *, log: bool = False, unit: str = "") -> str:
    """Predicted over true numbers float [N], and the diagonal on which all would lie; `log`: both axes."""
    chosen = _spread(len(true), MOST_POINTS)
    ends = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))

    def draw(axes: Axes) -> None:
        axes.plot(ends, ends, color=INK, linewidth=1)
        axes.plot(true[chosen], predicted[chosen], "o", color=SERIES[0], markersize=3.4, alpha=0.5, markeredgewidth=0)
        if log:
            axes.set(xscale="log", yscale="log")
        axes.grid()
        _plain_ticks(axes, "both", log)
        after = f" ({unit})" if unit else ""
        axes.set(xlabel=f"true{after}", ylabel=f"predicted{after}")

    return drawn(name, draw, 4.0)


def histogram(name: str, values: np.ndarray, *, label: str, bins: int = 24) -> tuple[str, list[tuple[str, int]]]:
    """Of values float [N]: the picture, and (from … to, count) of each bin."""
    counts, edges = np.histogram(values, bins)

    def draw(axes: Axes) -> None:
        axes.stairs(counts, edges, fill=True, color=SERIES[0])
        axes.grid(axis="y")
        _plain_ticks(axes, "x", False)
        axes.set(xlabel=label, ylabel="images")

    spans = [f"{format_quantity(low)} to {format_quantity(high)}" for low, high in pairwise(edges)]
    return drawn(name, draw, 2.4), list(zip(spans, counts.tolist(), strict=True))


def reliability(name: str, confidence: Sequence[float], right: Sequence[float], rows: Sequence[int]) -> str:
    """Of each bin that holds rows: the share that is right over the mean probability, and how many rows it holds."""
    most = max(rows)

    def draw(axes: Axes) -> None:
        axes.bar(confidence, [0.22 * each / most for each in rows], width=0.045, color=RULE)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1)
        axes.plot(confidence, right, color=SERIES[0], linewidth=1.6, marker="o", markersize=4.5)
        axes.grid()
        axes.set(xlabel="probability that it gave", ylabel="share that was right", xlim=(0, 1.03), ylim=(-0.03, 1.03))

    return drawn(name, draw, 3.6)


def _spread(count: int, most: int) -> np.ndarray:
    """Which of `count` rows are drawn, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _plain_ticks(axes: Axes, which: str, log: bool) -> None:
    """Numbers as a person writes them, without powers and offsets."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis)[: 2 if which == "both" else 1]:
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_quantity(value)))
        if log:
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_major_locator(MaxNLocator(5))
