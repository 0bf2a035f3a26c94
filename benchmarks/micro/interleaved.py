"""Times two or more functions in turns, so that whatever else the machine does meets all of them alike.

Owns the clock and the medians. Does not own what a ratio may be (baseline.py).
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

LEAST_ROUNDS = 7
MOST_ROUNDS = 41


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    seconds: float,
    *,
    least: int = LEAST_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, by name, after one call each to warm up.

    As many rounds as fit into `seconds`, but `least` to 41.

    Every other round goes backwards, so that no function always follows the same one.
    """
    names = list(functions)
    for function in functions.values():
        function()
    taken: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ends, rounds = clock() + seconds, 0
        while rounds < least or (rounds < MOST_ROUNDS and clock() < ends):
            for name in names if rounds % 2 == 0 else reversed(names):
                started = clock()
                functions[name]()
                taken[name].append(clock() - started)
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return taken


def ratio_of(ours: list[float], reference: list[float]) -> float:
    """Median of ours over the median of the reference."""
    return statistics.median(ours) / statistics.median(reference)
