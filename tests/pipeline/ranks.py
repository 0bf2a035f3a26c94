"""Ranks of one run as processes of the test's own, without a launcher that would end the others when one ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.pipeline.launched import ON_CPUS, ROOT

SECONDS = 240.0  # a bound for a machine that is busy; nothing here is timed


class Ranks:
    """Two ranks of `hf-finetune train`; `overrides` are those of each."""

    def __init__(
        self, logs: Path, overrides: Sequence[Sequence[str]], variables: Mapping[str, str] | None = None
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        count = str(len(overrides))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        self._logs = [logs / f"rank{rank}.log" for rank in range(len(overrides))]
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank, mine in enumerate(overrides):
            own = {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            with self._logs[rank].open("wb") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "hf_finetune", "train", *mine],
                        cwd=ROOT,
                        env={**os.environ, **ON_CPUS, **own, **(variables or {})},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, rank: int) -> str:
        return self._logs[rank].read_text("utf-8", errors="replace")

    def wait_for(self, path: Path, text: str = "") -> None:
        """Until the file is there and holds the text."""
        until = time.monotonic() + SECONDS
        while not (path.is_file() and text in path.read_text("utf-8")):
            assert all(each.poll() is None for each in self.processes), self.said(0) + self.said(1)
            assert time.monotonic() < until, self.said(0) + self.said(1)
            time.sleep(0.1)

    def codes(self) -> list[int]:
        """The exit codes, once all have ended."""
        return [process.wait(SECONDS) for process in self.processes]
