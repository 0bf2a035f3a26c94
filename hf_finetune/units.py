"""Bytes and seconds as a person writes and reads them: `4GB`, `2m`. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _with_unit(value: Any, units: Mapping[str, float], example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a number with a unit is expected, such as {example}")
    if isinstance(value, int | float):
        if value != 0:
            raise ValueError(f"a unit is expected, such as {example}")
        return 0.0
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", value)
    if value.strip() == "0":
        return 0.0
    if value.strip().startswith("-"):
        raise ValueError(f"a number from 0 up is expected, such as {example}")
    if match is None or match[2].lower() not in units:
        raise ValueError(f"a number with a unit ({', '.join(units)}) is expected, such as {example}")
    return float(match[1]) * units[match[2].lower()]


def parse_bytes(value: Any) -> int:
    """`4GB` → 4,000,000,000; `512MiB` → 536,870,912. Raises ValueError."""
    return int(_with_unit(value, _BYTES, "4GB or 512MiB"))


def parse_seconds(value: Any) -> float:
    """`150s`, `2m`, `1.5h` → seconds. Raises ValueError."""
    return _with_unit(value, _SECONDS, "150s or 2m")


def format_bytes(count: float) -> str:
    """1,536,000,000 → `1.54 GB` (powers of ten, three significant digits)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def format_seconds(seconds: float) -> str:
    """83 → `1 min 23 s`; 7.24 → `7.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def about_seconds(seconds: float) -> str:
    """A forecast, without digits that it does not have: `4 s`, `35 s`, `3 min`, `1 h 10 min`."""
    if seconds < 57.5:
        return f"{max(1, round(seconds))} s" if seconds < 10 else f"{5 * round(seconds / 5)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"


def format_quantity(value: float) -> str:
    """Four digits, and no exponent where a person would write none: `761,883`, `12.5`, `0.0031`."""
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e9 else f"{value:.4g}"
