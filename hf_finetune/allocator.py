"""The C library's allocator, told to keep what a training step frees: the next step wants it again."""

from __future__ import annotations

import ctypes
import sys

# glibc's mallopt parameters (malloc.h) and values. By default every block above 32 MB is mapped anew and given back,
# and each page is zeroed by the kernel again: 15 % of a run on two cores (docs/RESULTS.md).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Set it for this process; False where the C library has no such switch (not glibc)."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**30) and mallopt(_TRIM_THRESHOLD, _KEEP_BYTES))
