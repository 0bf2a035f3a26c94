"""Test accuracy against seconds and against memory: one picture a case, ours as lines, every reference as a point."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cases import CASES
from methods import METHODS
from results import Results

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS = {False: "tab:blue", True: "tab:cyan"}  # by whether caches are warm
# The references': none of ours.
COLOURS = ("tab:orange", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "black", "tab:gray") * 2


def draw(results: Results, case: str, path: Path) -> None:
    """Write the picture; bars reach from the worst seed to the best."""
    rows = [row for row in results.runs if row["case"] == case]
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True, layout="constrained")
    for axis, key, label in zip(
        axes, ("seconds", "anonymous_bytes"), ("seconds to saved", "peak anonymous MB"), strict=True
    ):
        _references(axis, rows, key)
        _ours(axis, rows, key)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        ticks = _ticks([_place([row], key) for row in rows])
        axis.set_xticks(ticks)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    figure.suptitle(CASES[case].title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _ticks(places: list[float]) -> list[float]:
    steps = [base * 10**power for power in range(5) for base in (1, 2, 5)]
    return [step for step in steps if min(places) / 1.5 <= step <= max(places) * 1.5]


def _place(rows: list[dict[str, Any]], key: str) -> float:
    value = statistics.median(row[key] for row in rows)
    return value if key == "seconds" else value / 1e6


def _bar(rows: list[dict[str, Any]]) -> tuple[float, list[list[float]]]:
    values = [row["accuracy"] for row in rows]
    mean = statistics.mean(values)
    return mean, [[mean - min(values)], [max(values) - mean]]


def _references(axis: Axes, rows: list[dict[str, Any]], key: str) -> None:
    markers, colours = iter("sD^vP*Xphd<>"), iter(COLOURS)
    for slug, method in METHODS.items():
        own = [row for row in rows if row["method"] == slug]
        if method.script and own:
            mean, bar = _bar(own)
            axis.errorbar(
                _place(own, key), mean, yerr=bar, fmt=next(markers), color=next(colours), capsize=2, label=method.title
            )


def _ours(axis: Axes, rows: list[dict[str, Any]], key: str) -> None:
    for warm, colour in OURS.items():
        points = []
        for slug, method in METHODS.items():
            own = [row for row in rows if row["method"] == slug]
            if not method.script and method.warm == warm and own:
                points.append((_place(own, key), *_bar(own)))
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        places, means = [point[0] for point in points], [point[1] for point in points]
        low, high = [point[2][0][0] for point in points], [point[2][1][0] for point in points]
        title = f"ours, {'warm' if warm else 'cold'} caches"
        line = "-" if key == "seconds" else ""
        axis.errorbar(places, means, yerr=[low, high], fmt=f"o{line}", color=colour, capsize=2, label=title)
