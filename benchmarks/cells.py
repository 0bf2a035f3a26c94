"""What one method's row says, each cell from the runs of its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from methods import METHODS, Method, first
from summary import SEEDS

MARGIN = 0.005
COLUMNS = (
    ("test accuracy (each seed)", "accuracy"),
    ("s to saved", "seconds"),
    ("s to exit", "process_seconds"),
    ("s to target", "target"),
    ("MB above imports", "above"),
    ("MB resident", "resident"),
    ("MB on the device", "device"),
    ("MB written", "written"),
    ("images/s by stage (share of the matmul rate)", "stages"),
)


def target_of(rows: Sequence[dict[str, Any]]) -> float | None:
    """Validation accuracy that counts as reached: the first reference's best, mean of its seeds, less half a point."""
    best = [max(accuracy for _, accuracy in row["validations"]) for row in rows if row["method"] == first()]
    return statistics.mean(best) - MARGIN if best else None


def reached_s(row: dict[str, Any], target: float | None) -> float | None:
    """Seconds from process start to the first validation at the target."""
    if target is None:
        return None
    return min((seconds for seconds, accuracy in row["validations"] if accuracy >= target), default=None)


def _accuracy(rows: Sequence[dict[str, Any]]) -> str:
    each = " ".join(f"{row['accuracy']:.3f}"[1:] if row["accuracy"] < 1 else "1" for row in rows)
    fewer = f", {len(rows)} of {SEEDS} seeds" if len(rows) < SEEDS else ""
    return f"{statistics.mean(row['accuracy'] for row in rows):.3f} ({each}{fewer})"


def _target(rows: Sequence[dict[str, Any]], target: float | None) -> str:
    found = [seconds for row in rows if (seconds := reached_s(row, target)) is not None]
    if not found:
        return "not reached"
    few = f" ({len(found)} of {len(rows)})" if len(found) < len(rows) else ""
    return f"{statistics.median(found):.0f}{few}"


def _megabytes(key: Callable[[dict[str, Any]], float | None]) -> Callable[[Sequence[dict[str, Any]]], str]:
    def largest(rows: Sequence[dict[str, Any]]) -> str:
        values = [value for row in rows if (value := key(row)) is not None]
        return f"{max(values) / 1e6:,.0f}" if values and max(values) else "–"

    return largest


def _stages(rows: Sequence[dict[str, Any]], method: Method) -> str:
    parts = []
    for name in dict.fromkeys(name for row in rows for name in row["stages"]):
        timed = [row for row in rows if row["stages"].get(name, [0, 0])[1]]
        rates = [row["stages"][name][0] / row["stages"][name][1] for row in timed]
        if not rates:
            continue
        part = f"{name} {statistics.median(rates):,.0f}"
        if name in method.work:
            kind, precision = method.work[name]
            shares = [rate * row["work"][kind] / row["work"][precision] for rate, row in zip(rates, timed, strict=True)]
            part += f" ({statistics.median(shares):.0%})"
        parts.append(part)
    return ", ".join(parts)


def cells_of(rows: Sequence[dict[str, Any]], target: float | None) -> list[str]:
    """One method's cells, in the order of COLUMNS."""
    above = _megabytes(lambda row: row["anonymous_bytes"] - row["baseline_bytes"] if row["baseline_bytes"] else None)
    return [
        _accuracy(rows),
        *(f"{statistics.median(row[key] for row in rows):.0f}" for key in ("seconds", "process_seconds")),
        _target(rows, target),
        above(rows),
        _megabytes(lambda row: row["resident_bytes"])(rows),
        _megabytes(lambda row: row["device_bytes"])(rows),
        _megabytes(lambda row: row["bytes_written"])(rows),
        _stages(rows, METHODS[rows[0]["method"]]),
    ]
