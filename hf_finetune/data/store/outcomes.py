"""What became of the slots of an entry so far, gathered from results in whatever order they come.

Arrays, not an object a row: an entry may have millions of rows. Does not own files (`unfinished.py`, `cache.py`).
"""

from __future__ import annotations

from typing import final

import numpy as np

from hf_finetune.data.store.cache import Entry
from hf_finetune.data.store.decode import Decoded, Failed


@final
class Outcomes:
    """`done` bool [N] says of which of the slots something is known; the rest as an `Entry` has it."""

    def __init__(self, rows: int) -> None:
        self.done = np.zeros(rows, bool)
        self._sizes, self._crcs = np.zeros((rows, 2), np.int32), np.zeros(rows, np.uint32)
        self._rejected: dict[int, str] = {}
        self._clipped: dict[int, int] = {}
        self._passing: set[int] = set()

    @classmethod
    def of(cls, entry: Entry) -> Outcomes:
        """Those of a finished entry, with a copy of its tables."""
        made = cls(0)
        made.done = np.ones(len(entry.crcs), bool)
        made._sizes, made._crcs = entry.sizes.copy(), entry.crcs.copy()
        made._rejected, made._clipped = dict(entry.rejected), dict(entry.clipped)
        made._passing = set(entry.passing)
        return made

    def add(self, result: Decoded | Failed) -> None:
        """Takes a result in, instead of what was known of its slot."""
        if self.done[result.slot]:
            self.forget(result.slot)
        self.done[result.slot] = True
        if isinstance(result, Failed):
            self._rejected[result.slot] = result.reason
            if result.passing:
                self._passing.add(result.slot)
            return
        self._sizes[result.slot], self._crcs[result.slot] = (result.width, result.height), result.crc
        if result.clipped:
            self._clipped[result.slot] = result.clipped

    def forget(self, slot: int) -> None:
        """As if nothing had become of a slot yet."""
        self.done[slot], self._sizes[slot], self._crcs[slot] = False, 0, 0
        self._rejected.pop(slot, None)
        self._clipped.pop(slot, None)
        self._passing.discard(slot)

    def crc_of(self, slot: int) -> int | None:
        """Of the pixels that were written; None where there are none."""
        return int(self._crcs[slot]) if self.done[slot] and slot not in self._rejected else None

    def left(self) -> list[int]:
        """The slots of which nothing is known, in order, and those that could not be opened before."""
        return sorted({*np.flatnonzero(~self.done).tolist(), *self._passing})

    def entry(self) -> Entry:
        """All of it, of no folder yet."""
        return Entry(None, self._sizes, self._crcs, self._rejected, self._clipped, frozenset(self._passing))
