"""Keeps in the run folder what the probe's pass has found of each row, for `hf-finetune fix`.

Of a run whose best rung was trained nothing is kept: its features are another pass, which `fix` makes when it is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.pipeline.images import Images
from hf_finetune.pipeline.saving import HELD_ROWS
from hf_finetune.plan.context import RunContext
from hf_finetune.run.clock import Clock
from hf_finetune.run.features_file import KeptFeatures, KeptRows, bytes_needed, room_for, write_features
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import LabelledRows, Split
from hf_finetune.units import format_bytes

if TYPE_CHECKING:
    from hf_finetune.ladder.candidates import Climbed
    from hf_finetune.ladder.probe.feature_cache import SplitFeatures
    from hf_finetune.result.manifest import Manifest

logger = logging.getLogger(__name__)
# Of a plain disk. Writing that is forecast to take no longer than _AT_MOST_S is no matter to a budget of time.
_BYTES_A_SECOND, _AT_MOST_S = 100e6, 0.1
LIBRARIES = ("torch", "transformers", "timm", "bitsandbytes")


@dataclass(frozen=True)
class Interleaved:
    """The rows of several processes in the split's order; only those that are asked for are in memory."""

    parts: Sequence[SplitFeatures]
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        found = np.zeros((stop - start, self.shape[1]), np.float32)
        for part in self.parts:
            low, high = np.searchsorted(part.rows, [start, stop])
            found[part.rows[low:high] - start] = part.features[low:high]
        return found


def keep_features(
    context: RunContext, folder: RunFolder, climbed: Climbed, images: Images, manifest: Manifest, clock: Clock
) -> None:
    """Of rank 0. What cannot be kept is not, and the run is as good without: it is said why."""
    if images.probe_rows is None or not climbed.all_features:
        return
    rows: dict[Split, LabelledRows] = {"train": images.probe_rows, "validation": images.rows["validation"]}
    parts = climbed.all_features
    width = max(part.features.shape[1] for part in parts["train"])
    needed = bytes_needed(sum(map(len, rows.values())), width)
    if not all(_is_there(part) for its in parts.values() for part in its):
        _not_kept("another machine's are not on this disk")
        return
    budget, writing = context.recipe.budget.time, needed / _BYTES_A_SECOND
    if budget is not None and writing > max(_AT_MOST_S, budget - clock.total()):
        _not_kept("writing them would take longer than budget.time has left")
        return
    found: dict[Split, KeptRows] = {}
    for split, its in rows.items():
        unit_of = {row.name: row.unit for row in context.index.splits[split]}
        units = np.array([unit_of[name] for name in its.names], np.int64)
        matrix = Interleaved(parts[split], (len(its), width))
        found[split] = KeptRows(tuple(its.names), np.asarray(its.labels), units, matrix)
    held = found["validation"].features[:HELD_ROWS]
    write_rows(folder, KeptFeatures(found, held, about_features(context, manifest, "probe", climbed.made_by)))


def write_rows(folder: RunFolder, kept: KeptFeatures) -> bool:
    """Whether they are in the folder now: what is too large is not, and a disk that cannot take them is no error."""
    rows = kept.rows.values()
    needed = bytes_needed(sum(map(len, rows)), kept.held.shape[1])
    if not room_for(folder.path, needed):
        _not_kept(f"they would take {format_bytes(needed)}")
        return False
    try:
        write_features(folder.features, kept)
    except OSError as error:
        _not_kept(error.strerror or str(error))
        return False
    return True


def about_features(context: RunContext, manifest: Manifest, rung: str, engine: str) -> dict[str, Any]:
    """What decides features beside the images, and what their labels mean. `rung`: whose weights made them."""
    return {
        "rung": rung,
        "fingerprint": manifest.fingerprint,
        "dtype": manifest.dtype,
        "precision": context.plan.precision.value,
        "engine": engine,
        "device": context.plan.device.value,
        "quantization": manifest.quantization,
        "columns": [asdict(column) for column in context.index.columns],
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _is_there(part: SplitFeatures) -> bool:
    """Rows of a process whose files are on another disk stand there as zeros."""
    return not len(part.rows) or bool(np.any(part.features[:1]))


def _not_kept(why: str) -> None:
    logger.info("The features of the rows are not kept for `hf-finetune fix`: %s.", why)
