"""Wall-clock seconds by stage, counted from the start of the process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


class Clock:
    """Seconds of each stage; `total` counts from process start, imports included."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._process_start = psutil.Process().create_time()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's seconds to the stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def total(self) -> float:
        """Seconds since the process started (since the notebook's kernel did, in a notebook)."""
        return time.time() - self._process_start
