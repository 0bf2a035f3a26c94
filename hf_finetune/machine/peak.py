"""Peak memory of this process, sampled beside the work: anonymous and resident bytes, and the device's own count."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

INTERVAL_S = 0.1


class PeakMemory:
    """A context that samples memory in a thread. Memory-mapped store pages are resident but not anonymous."""

    def __init__(self) -> None:
        self.baseline_bytes = 0  # anonymous, when the context is entered
        self.anonymous_bytes = 0
        self.resident_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak-memory")

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            memory = process.memory_info()
            self.resident_bytes = max(self.resident_bytes, memory.rss)
            # `shared` (file-backed and shared pages) exists on Linux; elsewhere resident is the best known bound.
            self.anonymous_bytes = max(self.anonymous_bytes, memory.rss - getattr(memory, "shared", 0))
            self.baseline_bytes = self.baseline_bytes or self.anonymous_bytes
            if self._stop.wait(INTERVAL_S):
                return


def anonymous_bytes() -> int:
    """What this process holds of its own now."""
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)


def device_peak_bytes(device: str) -> int:
    """The most that torch has taken of the device since the start, what it keeps for later included: a CUDA graph's
    memory is in no count of tensors. 0 on a CPU."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    if device == "xpu":
        return torch.xpu.max_memory_reserved()
    return 0
