"""The committed ratios and how much worse than them a run may be.

baseline.json holds, for each benchmark, `ratio` (ours over the reference, so that less is better) and `tolerance`, a
factor. Times get a wide one, since ratios move with the processor and with what else runs; bytes hardly move.
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

from hf_finetune.machine import cpu_name

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


def read(path: Path = PATH) -> dict[str, Limit]:
    """The limits by name; none where there is no file yet."""
    return {name: Limit(entry["ratio"], entry["tolerance"]) for name, entry in _entries(path).items()}


def of_this_processor(path: Path = PATH) -> bool:
    """Whether the times were recorded on this kind of processor."""
    return not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["last_recorded_on"]["cpu"] == cpu_name()


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.is_file() else {}


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


def write(results: Mapping[str, Mapping[str, Any]], path: Path = PATH) -> None:
    """Record these results (`ratio`, `kind`) beside the older ones of other benchmarks; tolerances stay as they are."""
    about, entries = about_this_run(), _entries(path)
    for name, result in results.items():
        tolerance = entries.get(name, {}).get("tolerance", TOLERANCES[result["kind"]])
        entries[name] = {"ratio": round(result["ratio"], 4), "tolerance": tolerance, "date": about["date"]}
    content = {"last_recorded_on": about, "benchmarks": dict(sorted(entries.items()))}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def about_this_run() -> dict[str, Any]:
    """Machine, date and versions: what a ratio belongs to."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
