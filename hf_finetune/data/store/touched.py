"""Which rows' files were touched since they were decoded, also where their size and time are as they were."""

from __future__ import annotations

import os

from hf_finetune.data.sources.source import touched_ns
from hf_finetune.data.store.cache import Entry
from hf_finetune.types import Index, Split


def touched_slots(index: Index, split: Split, entry: Entry) -> list[int]:
    """Slots whose file was touched in any way since the entry was last held to its images: what its size and time do
    not show. All of them where the files hold many rows each."""
    if not 0 < entry.written_s < index.touched_s or entry.folder is None:
        return []
    return [slot for slot, row in enumerate(index.splits[split]) if _touched_s(row.locator) > entry.written_s]


def touched_since(index: Index, since_s: float) -> int | None:
    """How many rows' files were touched in any way after `since_s`, as `time.time()` counts: none is asked where the
    scan saw no file of that time. None: some were, and the files hold many rows each."""
    if not since_s < index.touched_s:
        return 0
    locators = [row.locator for rows in index.splits.values() for row in rows]
    if any(isinstance(locator, int) for locator in locators):
        return None
    return sum(_touched_s(locator) > since_s for locator in locators)


def _touched_s(locator: str | int) -> float:
    if isinstance(locator, int):
        return float("inf")
    try:
        return touched_ns(os.stat(locator)) / 1e9  # noqa: PTH116 (a Path per row doubles the time)
    except OSError:  # gone: the image is drawn from the store
        return 0.0
