"""One forward pass over the frozen backbone, its results kept beside the image store and reused by the next run.

Kept for each image: the head's input (float32) and, where asked for, the state that enters one block (bfloat16). The
files are the store's own (data/store/cache.py): keyed by data, geometry and everything that could change a number,
locked while they are written, checked when they are opened, deleted when unused. Each process keeps its own rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hf_finetune.data.store.cache import PIXELS, Entry, building, load_entry, view_key
from hf_finetune.data.store.expiry import META
from hf_finetune.data.store.open_views import left_of
from hf_finetune.data.store.stored_rows import StoredRows
from hf_finetune.files.cache import locked
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.result.manifest import Manifest
from hf_finetune.types import Index, Machine, PixelRows, Plan, Split
from hf_finetune.units import format_bytes

logger = logging.getLogger(__name__)
FORMAT = 1
LIBRARIES = ("torch", "transformers", "timm", "bitsandbytes")


@dataclass(frozen=True)
class FeatureLayout:
    """What a kept row is made of; stands where the image store has a geometry."""

    identity: str  # of weights, precision, libraries and pixels
    features: int
    hidden: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype:
        fields: list[Any] = [("features", "<f4", (self.features,))]
        if self.hidden is not None:
            fields.append(("hidden", "<i2", self.hidden))  # bfloat16, which numpy does not know
        return np.dtype(fields)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dtype.itemsize,)

    def key(self) -> dict[str, Any]:
        return {"hidden": self.identity, "shape": [self.features, *(self.hidden or ())], "format": FORMAT}


@dataclass(frozen=True)
class SplitFeatures:
    """This process's rows of one split after the pass: row numbers in the split, their arrays, and the pass's seconds.

    `pass_s` is None where none was run here: an earlier run's, or another process's, were found or awaited.
    """

    rows: np.ndarray  # int64 [n]
    features: np.ndarray  # float32 [n, d]
    hidden: np.ndarray | None  # int16 [n, …]: the bits of bfloat16
    pass_s: float | None


def identity_of(manifest: Manifest, plan: Plan, start: str | None) -> str:
    """A digest of whatever decides the backbone's features of an image, beside the image: weights, types, libraries.

    `start` is the digest of the adapter that the run starts from.
    """
    parts = {
        "fingerprint": manifest.fingerprint,
        "quantization": [manifest.quantization, *manifest.unquantized],
        "compute": plan.compute.value,
        "dtype": manifest.dtype,
        "precision": plan.precision.value,
        "device": plan.device.value,
        "preprocess": repr(manifest.preprocess),
        **{name: version(name) for name in LIBRARIES},
    }
    if start is not None:
        parts["start"] = start
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """Keeps what a pass gives, and finds what an earlier one kept.

    `features` is the width of the head's input, `hidden` the shape of an image's watched state (None: not wanted). The
    state is kept only where its room is within `limit_bytes` (None: half of the free disk), of which the run's other
    entries have `used` what they say, by key; features alone are kept in memory where not even they are.
    """

    index: Index
    identity: str
    features: int
    hidden: tuple[int, ...] | None
    root: Path
    limit_bytes: int | None
    max_pixels: int
    machine: Machine
    used: dict[str, int] = field(default_factory=dict)

    def keep(
        self, extractor: FeatureExtractor, rows: PixelRows, split: Split, progress: Callable[[int], object]
    ) -> SplitFeatures:
        """The pass over this process's share of a split, or what an earlier run kept of it."""
        own = self.machine.own_rows(len(rows))
        geometry = self._geometry(len(rows), split)
        key = self._key(split, geometry, self.machine.rank)
        try:
            self._take_room(key, split, geometry, len(rows))
            with locked(self.root, key):
                entry, pass_s = load_entry(self.root, key, len(own), geometry, whole=True), None
                if entry is not None and isinstance(rows, StoredRows) and entry.written_s < rows.changed_s:
                    entry = None  # images have become others since, whatever their files' size and time say
                if entry is None:
                    with building(self.root, key, len(own), geometry) as made:
                        array = _mapped(made.pixels, geometry, len(own), "r+")
                        crcs, pass_s = _fill(extractor, rows, own, array, progress)
                        del array  # Windows renames no folder with a mapped file in it
                        entry = made.publish(Entry(None, np.zeros((len(own), 2), np.int32), crcs, {}))
        except OSError as error:
            logger.info("%s: features are kept in memory, since %s cannot be written (%s).", split, self.root, error)
            array = np.zeros(len(own), replace(geometry, hidden=None).dtype)
            _, pass_s = _fill(extractor, rows, own, array, progress)
            return SplitFeatures(own, array["features"], None, pass_s)
        return self._kept(own, _mapped((entry.folder or Path()) / PIXELS, geometry, len(own), "r"), pass_s)

    def has(self, rows: int, split: Split) -> bool:
        """Whether something is kept of this process's share; `keep` finds out if it can be trusted."""
        return (self.root / self._key(split, self._geometry(rows, split), self.machine.rank) / META).is_file()

    def everybody(self, own: SplitFeatures, rows: int, split: Split) -> list[SplitFeatures]:
        """Every process's share in rank order, `own` among them; without states where another's is not on this disk.

        Call it when all have kept theirs.
        """
        geometry = self._geometry(rows, split)
        parts: list[SplitFeatures] = []
        for rank in range(self.machine.world_size):
            if rank == self.machine.rank:
                parts.append(own)
                continue
            numbers = np.arange(rank, rows, self.machine.world_size)
            entry = load_entry(self.root, self._key(split, geometry, rank), len(numbers), geometry, whole=True)
            if entry is None or entry.folder is None:
                nothing = np.zeros((len(numbers), self.features), np.float32)
                parts.append(SplitFeatures(numbers, nothing, None, None))
            else:
                array = _mapped(entry.folder / PIXELS, geometry, len(numbers), "r")
                parts.append(self._kept(numbers, array, None))
        return parts

    def _geometry(self, rows: int, split: Split) -> FeatureLayout:
        wanted = FeatureLayout(self.identity, self.features, self.hidden)
        # What is kept already needs no room. Else the same answer on every process of one machine: room for all shares.
        needed, key = rows * wanted.shape[0], self._key(split, wanted, self.machine.rank)
        if self.hidden is None or self._is_kept(key) or self._has_room(key, needed):
            return wanted
        logger.info("%s: the prefix cache would take %s, more than may be used; not kept.", split, format_bytes(needed))
        return replace(wanted, hidden=None)

    def _is_kept(self, key: str) -> bool:
        return (self.root / key / META).is_file()

    def _take_room(self, key: str, split: Split, geometry: FeatureLayout, rows: int) -> None:
        """Raises OSError where `data.store_limit` leaves none."""
        needed = rows * geometry.shape[0]
        if self.limit_bytes is not None and not self._is_kept(key) and not self._has_room(key, needed):
            raise OSError(errno.EDQUOT, f"data.store_limit leaves no {format_bytes(needed)} for {split}")
        self.used[key] = needed

    def _has_room(self, key: str, needed: int) -> bool:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.limit_bytes is not None:
                return needed <= left_of(self.limit_bytes, self.used, key)
            return needed <= shutil.disk_usage(self.root).free // 2
        except OSError:
            return False

    def _key(self, split: Split, geometry: FeatureLayout, rank: int) -> str:
        share = replace(self.index, splits={split: self.index.splits[split][rank :: self.machine.world_size]})
        return view_key(share, split, geometry, self.max_pixels)

    def _kept(self, rows: np.ndarray, array: np.ndarray, pass_s: float | None) -> SplitFeatures:
        hidden = array["hidden"] if "hidden" in (array.dtype.names or ()) else None
        return SplitFeatures(rows, array["features"], hidden, pass_s)


def _mapped(path: Path, geometry: FeatureLayout, rows: int, mode: Literal["r", "r+"]) -> np.ndarray:
    if not rows:  # an empty file cannot be mapped
        return np.zeros(0, geometry.dtype)
    return np.memmap(path, geometry.dtype, mode, shape=(rows,))


def _fill(
    extractor: FeatureExtractor, rows: PixelRows, own: np.ndarray, array: np.ndarray, progress: Callable[[int], object]
) -> tuple[np.ndarray, float]:
    """Run the pass into `array`, batch after batch; returns each row's CRC, and the seconds that it took."""
    crcs, started = np.zeros(len(own), np.uint32), time.perf_counter()
    for start in range(0, len(own), extractor.batch):
        here = own[start : start + extractor.batch]
        features, hidden = extractor(rows.gather(here))
        part = np.zeros(len(here), array.dtype)
        part["features"] = features.numpy()
        if "hidden" in (array.dtype.names or ()) and hidden is not None:
            part["hidden"] = hidden.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy()
        array[start : start + len(here)] = part
        crcs[start : start + len(here)] = [zlib.crc32(row.tobytes()) for row in part]
        progress(len(here))
    return crcs, time.perf_counter() - started
