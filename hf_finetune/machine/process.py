"""Settings of this process that save time: when Python's cycle collector looks, and what the C library keeps.

During imports the collector is nearly off: what they make lives to the end, and is looked through in vain. Looking
costs .9 of the 4.6 s that PEFT, timm and the Trainer take to import (AMD EPYC, 2026-11-24). The allocator is told to
keep what a training step frees, since the next step wants it again; while a model loads it is told to give back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

# glibc's mallopt parameters (malloc.h) and values. By default every block above 32 MB is mapped anew and given back,
# and each page is zeroed by the kernel again: 15 % of a run on two cores
# (docs/experiments.md, "The ladder under time budgets").
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 2**31 - 1
RARELY = 200_000  # more objects than collected between two looks; Python's own default is 700

_usual: tuple[int, int, int] | None = None


def collect_rarely() -> None:
    """For a process that is ours alone. `collect_as_usual` ends it."""
    global _usual
    _usual = gc.get_threshold()
    gc.set_threshold(RARELY, *_usual[1:])


def collect_as_usual() -> None:
    """After the imports: what is there is not looked at again. Nothing where `collect_rarely` was not called."""
    global _usual
    if _usual is not None:
        gc.freeze()
        gc.set_threshold(*_usual)
        _usual = None


def keep_freed_memory() -> bool:
    """Set it for this process; False where the C library has no such switch (not glibc)."""
    mallopt = _of_libc("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, 2**30) and mallopt(_TRIM_THRESHOLD, _KEEP_BYTES))


def give_back_freed_memory() -> bool:
    """Hand what is free now back to the system, between blocks in use too; False where the C library has no such call.

    Takes some milliseconds. What `keep_freed_memory` said of later frees stays.
    """
    trim = _of_libc("malloc_trim")
    return trim is not None and bool(trim(0))


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has no such one."""
    if sys.platform != "linux":
        return None
    import ctypes  # 5 ms, which the start of every verb would pay

    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
