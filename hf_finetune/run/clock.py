"""Wall-clock seconds by stage, and in all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


def process_start() -> float:
    """When this process started, as `time.time()` counts: before any import."""
    return psutil.Process().create_time()


class Clock:
    """Seconds of each stage; `total` counts from `started` (as `time.time()`; None: from now).

    Stages of different threads may run at the same time (images decode while the model is built), so that their sum
    can be more than the total.
    """

    def __init__(self, started: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.time() if started is None else started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's seconds to the stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def total(self) -> float:
        """Seconds since the start."""
        return time.time() - self._started
