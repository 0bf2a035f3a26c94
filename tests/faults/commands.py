"""The command line as it is run in a campaign: quickly in forks, as a process of its own, or as two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LONGEST_S = 300.0


@dataclass(frozen=True)
class Disk:
    """The calls named by letters (disk.c) on files below `folder` fail with `error`, `count` of them from `first`."""

    folder: Path
    calls: str
    first: int
    count: int
    error: int
    counter: Path

    def as_list(self) -> list[Any]:
        """As the zygote takes it."""
        return [f"{self.folder}/", self.calls, self.first, self.count, self.error, str(self.counter)]


@dataclass(frozen=True)
class Done:
    """Exit code (of a signal that killed it: less than 0; None: it did not end) and everything that was printed."""

    code: int | None
    text: str

    @property
    def has_traceback(self) -> bool:
        """Whether a person saw a traceback."""
        return "Traceback (most recent call last)" in self.text


class Commands:
    """Runs commands in `folder`, with the cache `cache` and, where there is a compiler, the failing disk."""

    def __init__(self, folder: Path, library: Path | None, hub: str) -> None:
        self.folder, self.has_disk = folder, library is not None
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": hub,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_FINETUNE_CACHE": str(folder / "cache"),
            **({"LD_PRELOAD": str(library)} if library else {}),
        }
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        self._answer()

    def close(self) -> None:
        """End the zygote."""
        self._zygote.kill()
        self._zygote.communicate()

    def start(self, *arguments: object, disk: Disk | None = None, environment: dict[str, str] | None = None) -> Started:
        """A fork that runs a command."""
        output = self.folder.with_suffix(".txt")
        asked = {
            "arguments": [str(each) for each in arguments],
            "folder": str(self.folder),
            "environment": environment or {},
            "output": str(output),
            "disk": disk.as_list() if disk else None,
        }
        return Started(self, self._ask({"start": asked})["pid"], output)

    def run(self, *arguments: object, disk: Disk | None = None, environment: dict[str, str] | None = None) -> Done:
        """A command to its end."""
        return self.start(*arguments, disk=disk, environment=environment).wait()

    def process(self, command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """A process of its own, imports and all; `command` after the interpreter. It leads a group of its own."""
        environment = {name: text for name, text in self._environment.items() if name != "LD_PRELOAD"} | (
            environment or {}
        )
        return subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._zygote.stdout is not None
        return json.loads(self._zygote.stdout.readline())


class Started:
    """A command that runs."""

    def __init__(self, commands: Commands, pid: int, output: Path) -> None:
        self._commands, self.pid, self._output = commands, pid, output

    def send(self, number: int) -> None:
        """A signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_over(self) -> bool:
        """Whether it has ended."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def wait(self) -> Done:
        """Its end; killed, with everything that it started, where it takes far too long."""
        end, hangs = time.monotonic() + LONGEST_S, False
        while not self.is_over():
            time.sleep(0.01)
            if time.monotonic() > end:
                hangs = True
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, 9)
                end += LONGEST_S
        code = self._commands._ask({"wait": self.pid})["code"]
        return Done(None if hangs else code, self._output.read_text("utf-8", errors="replace"))
