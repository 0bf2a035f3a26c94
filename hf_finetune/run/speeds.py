"""How fast rungs were on this machine: a short file beside the cache, written when a run ends, read by the plan.

Holds the machine's name, a backbone's architecture and operations, and seconds an image; nothing of data or labels.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_finetune.files.cache import cache_root
from hf_finetune.files.whole_file import write_whole
from hf_finetune.types import Machine

FILE = "speeds.json"
_KEPT = 200  # the newest
_ASKED = 5  # of those that match, for a median
# A backbone of a hundredth of the operations spends its time on starting kernels: in proportion, ViT-Tiny was said to
# take 15 hours where it takes minutes. Assumption.
_ALIKE = 4.0


@dataclass(frozen=True)
class Speed:
    """`image_s`: seconds an image of `rung`, everything in it counted; of `rest`: seconds of all but the rungs."""

    machine: str
    setting: str
    backbone: str
    flops: float
    rung: str
    image_s: float


def machine_key(machine: Machine) -> str:
    """What must be the same for speeds to be comparable."""
    return f"{machine.device_name}, {machine.cores} cores, {machine.world_size} processes"


def read_speeds() -> list[Speed]:
    """All that is kept, oldest first; nothing where the file is absent or damaged."""
    try:
        return [Speed(**entry) for entry in json.loads(_path().read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def keep_speeds(found: Sequence[Speed]) -> None:
    """Add them; a disk that cannot be written loses them."""
    if not found:
        return
    path = _path()
    entries = [asdict(each) for each in [*read_speeds(), *found][-_KEPT:]]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(entries, indent=1))


def median_of(speeds: Sequence[Speed], **match: Any) -> float | None:
    """Seconds an image in the newest that match every field; None where none does."""
    values = [each.image_s for each in speeds if all(getattr(each, key) == value for key, value in match.items())]
    return statistics.median(values[-_ASKED:]) if values else None


def scaled_of(speeds: Sequence[Speed], flops: float, **match: Any) -> float | None:
    """The same of backbones with a quarter to four times its operations, in proportion to them."""
    alike = [each for each in speeds if flops / _ALIKE <= each.flops <= flops * _ALIKE and each.flops > 0]
    matching = [each for each in alike if all(getattr(each, key) == value for key, value in match.items())]
    values = [each.image_s / each.flops for each in matching]
    return flops * statistics.median(values[-_ASKED:]) if values else None


def as_speeds(
    machine: Machine, setting: str, backbone: str, flops: float, seconds: Mapping[str, tuple[float, int]]
) -> list[Speed]:
    """From seconds and images by rung; a rung of no image is left out."""
    return [
        Speed(machine_key(machine), setting, backbone, flops, rung, spent / images)
        for rung, (spent, images) in seconds.items()
        if images > 0 and spent > 0
    ]


def _path() -> Path:
    return cache_root(None).parent / FILE
