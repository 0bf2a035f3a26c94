"""The committed ratios and how much worse than them a run may be.

baseline.json holds, by processor and benchmark, `ratio` (ours over the reference, so that less is better) and
`tolerance`, a factor. Ratios of times move by factors from one processor to another (some have bfloat16 in hardware),
so that each is held to its own; and with what else runs, so that their tolerance is wide. Bytes hardly move.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hf_finetune.machine.detect import cpu_name

PATH = Path(__file__).with_name("baseline.json")
UPDATE = "make bench-micro MICRO=--update-baseline"
# Of a benchmark that is new; a single one is changed in baseline.json. At loads of 2 to 13 on two cores (2026-11-24)
# ratios of times moved by up to a third, most by a tenth, and those of whole processes by a half.
TOLERANCES = {"time": 1.4, "process": 1.8, "bytes": 1.02}
LIBRARIES = ("torch", "torchvision", "transformers", "peft", "timm", "scikit-learn", "numpy", "pillow")


@dataclass(frozen=True)
class Limit:
    """One entry of the baseline."""

    ratio: float
    tolerance: float

    @property
    def most(self) -> float:
        return self.ratio * self.tolerance


def read(path: Path = PATH, cpu: str | None = None) -> dict[str, Limit]:
    """The limits of a processor (None: this one) by name; of one that nothing is known of, the bytes alone."""
    found, cpu = _processors(path), cpu or cpu_name()
    known = cpu in found
    return {
        name: Limit(entry["ratio"], entry["tolerance"])
        for about in ([found[cpu]] if known else found.values())
        for name, entry in about["benchmarks"].items()
        if known or entry["kind"] == "bytes"
    }


def processors(path: Path = PATH) -> list[str]:
    """Those that something was recorded on."""
    return list(_processors(path))


def names(path: Path = PATH) -> set[str]:
    """The benchmarks that were recorded on any processor."""
    return {name for about in _processors(path).values() for name in about["benchmarks"]}


def _processors(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def fault(name: str, ratio: float, limits: Mapping[str, Limit]) -> str | None:
    """What is wrong with this ratio; None where it is within its limit."""
    limit = limits.get(name)
    if limit is None:
        return f"{name}: found {ratio:.3f}, but {PATH.name} has no entry for it; record it: {UPDATE}"
    if ratio <= limit.most:  # NaN is not
        return None
    return (
        f"{name}: expected at most {limit.most:.3f} times the reference ({limit.ratio:.3f} in {PATH.name}, tolerance "
        f"{limit.tolerance:g}), found {ratio:.3f}. If that is meant, record it and say why in the commit: {UPDATE}"
    )


def write(results: Mapping[str, Mapping[str, Any]], path: Path = PATH, cpu: str | None = None) -> None:
    """Record these results (`ratio`, `kind`) of a processor (None: this one) beside the older ones of other benchmarks.

    Tolerances stay as they are.
    """
    about, found, cpu = about_this_run(), _processors(path), cpu or cpu_name()
    entries = found.get(cpu, {}).get("benchmarks", {})
    for name, result in results.items():
        tolerance = entries.get(name, {}).get("tolerance", TOLERANCES[result["kind"]])
        entry = {"kind": result["kind"], "ratio": round(result["ratio"], 4), "tolerance": tolerance}
        entries[name] = {**entry, "date": about["date"]}
    found[cpu] = {"last_recorded_on": about, "benchmarks": dict(sorted(entries.items()))}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def about_this_run() -> dict[str, Any]:
    """Machine, date and versions: what a ratio belongs to."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
