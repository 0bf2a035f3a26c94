"""Where the cache lies that runs share, and the right to build one entry of it."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


def cache_root(cache_dir: Path | None) -> Path:
    """`cache_dir`, else HF_FINETUNE_CACHE, else the platform's cache folder; with `store` below it."""
    if cache_dir is not None:
        return cache_dir / "store"
    if named := os.environ.get("HF_FINETUNE_CACHE"):
        return Path(named).expanduser() / "store"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif platform.system() == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hf_finetune" / "store"


@contextmanager
def locked(root: Path, key: str) -> Iterator[None]:
    """Holds the right to build `key`; others, in this process or another, wait. Raises OSError where it cannot."""
    root.mkdir(parents=True, exist_ok=True)
    with holding(lock_of(root, key)):
        yield


def lock_of(root: Path, key: str) -> FileLock:
    """The right to build `key`, not taken yet. A thread that has it may take it again."""
    return FileLock(root / f"{key}.lock")


@contextmanager
def holding(lock: FileLock) -> Iterator[None]:
    """Holds a right meanwhile. Who has to wait for another process is told."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        logger.info("waiting for another process that is building the same entry of the cache")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
