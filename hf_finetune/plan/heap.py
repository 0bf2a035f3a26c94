"""What a step's tensors take of a CPU's heap: more than their bytes, because of the holes between them. Pure.

The GNU C library cuts a block of torch's (aligned to 64 bytes) out of a larger one and puts the cut-off ends, some 50
bytes, on its lists; small objects take them, and some stay to the end of the step. A block that is freed between two of
those is too short for the next one of its own size. This is played through on the order in which a step makes and drops
its tensors. How many of the ends are taken for so long is measured (docs/experiments.md, "Memory: forecast and
measured").
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

_ALIGNED, _HEADER, _LEAST = 64, 16, 32  # bytes; malloc.c of glibc 2.36
_STEPS = 2  # the second finds the first's holes

# A storage's number, and what it takes at a batch of none and with each image; negative where it ends.
Change = tuple[int, int, int]
Block = tuple[int, int]


def heap_bytes(changes: Sequence[Change], batch: int, pinned: float) -> int:
    """How far the heap grows in steps of `batch` images that make and drop tensors in this order; `pinned`: the share
    of cut-off ends that something small takes to the end of a step."""
    heap = _Heap(pinned)
    for _ in range(_STEPS):
        held: dict[int, Block] = {}
        for number, fixed, image in changes:
            size = fixed + image * batch
            if size > 0:
                held[number] = heap.take(size)
            elif number in held:
                heap.give(held.pop(number))
        for block in (*held.values(), *heap.pinned):
            heap.give(block)
        heap.pinned.clear()
    return heap.most


class _Heap:
    """Best fit from free blocks, else from the top; neighbours that are free are one block."""

    def __init__(self, share: float) -> None:
        self._share, self._due = share, 0.0
        self.most = self._top = _HEADER
        self.pinned: list[Block] = []
        self._free: list[tuple[int, int]] = []  # size and start
        self._ends: dict[int, int] = {}  # start -> end of free blocks
        self._starts: dict[int, int] = {}

    def take(self, size: int) -> Block:
        """A block for a tensor of `size` bytes; what is cut off before and behind it is pinned if it is small."""
        whole = max(_LEAST, (size + 8 + 15) // 16 * 16)
        start, end = self._cut(whole + _ALIGNED + _LEAST)
        if (start + _HEADER) % _ALIGNED:
            at = -(-(start + _HEADER) // _ALIGNED) * _ALIGNED - _HEADER
            at += _ALIGNED if at - start < _LEAST else 0
            self._cut_off((start, at))
            start = at
        rest = end - start - whole
        if rest > _LEAST:
            end = start + whole
            if rest <= 2 * _ALIGNED and end + rest != self._top:
                self._cut_off((end, end + rest))
            else:
                self.give((end, end + rest))
        return start, end

    def give(self, block: Block) -> None:
        """Free it, joined with what is free beside it."""
        start, end = block
        if start in self._starts:
            before = self._starts[start]
            self._forget(before, start)
            start = before
        if end in self._ends:
            after = self._ends[end]
            self._forget(end, after)
            end = after
        if end == self._top:
            self._top = start
            return
        bisect.insort(self._free, (end - start, start))
        self._ends[start], self._starts[end] = end, start

    def _cut_off(self, block: Block) -> None:
        self._due += self._share
        if self._due >= 1:
            self._due -= 1
            self.pinned.append(block)
        else:
            self.give(block)

    def _cut(self, size: int) -> Block:
        place = bisect.bisect_left(self._free, (size, -1))
        if place == len(self._free):
            start, self._top = self._top, self._top + size
            self.most = max(self.most, self._top)
            return start, self._top
        found, start = self._free[place]
        self._forget(start, start + found)
        if found - size >= _LEAST:
            self.give((start + size, start + found))
            return start, start + size
        return start, start + found

    def _forget(self, start: int, end: int) -> None:
        del self._free[bisect.bisect_left(self._free, (end - start, start))]
        del self._ends[start], self._starts[end]
