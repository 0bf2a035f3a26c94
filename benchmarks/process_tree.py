"""Runs a command and watches it from outside: wall clock, memory of the whole process tree, bytes written.

Owns the sampling. Anonymous memory is what the processes hold for themselves; pages of files that are mapped (the image
store, the shared libraries) are resident too, but the system takes them back when it needs the room.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL_S = 0.1
# Linux counts ru_oublock in these whatever the disk's own: pages made dirty, by write() and by mappings alike, of the
# process and of every child that it waited for (getrusage(2); task_io_accounting in the kernel).
BLOCK_BYTES = 512


@dataclass(frozen=True)
class Usage:
    """What a finished command took. Bytes are the peak of the sums over all its processes at one moment.

    `anonymous_bytes` counts memory of no file, `mapped_bytes` pages of files and shared memory, `resident_bytes` both.
    `written_bytes` and `cpu_seconds` are None where the system does not say.
    """

    code: int
    seconds: float
    anonymous_bytes: int
    mapped_bytes: int
    resident_bytes: int
    written_bytes: int | None
    cpu_seconds: float | None


class _Sampler:
    """Samples a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.anonymous = self.mapped = self.resident = 0
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._sample()
            self._stop.wait(INTERVAL_S)

    def _sample(self) -> None:
        resident = mapped = 0
        try:
            family = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                memory = process.memory_info()
            except psutil.Error:  # it ended since, or is a zombie
                continue
            resident += memory.rss
            mapped += getattr(memory, "shared", 0)  # RssFile + RssShmem on Linux; elsewhere all counts as anonymous
        self.anonymous = max(self.anonymous, resident - mapped)
        self.mapped, self.resident = max(self.mapped, mapped), max(self.resident, resident)


def watch(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Run `command` to its end, its output into `log`; the environment is ours and `environment`."""
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        sampler = _Sampler(process.pid)
        written: int | None = None
        cpu: float | None = None
        if sys.platform == "linux":
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            written, cpu = usage.ru_oublock * BLOCK_BYTES, usage.ru_utime + usage.ru_stime
        else:
            process.wait()
        seconds = time.monotonic() - started
        sampler.stop()
    return Usage(process.returncode, seconds, sampler.anonymous, sampler.mapped, sampler.resident, written, cpu)
