"""The process that writes to trackers, seen from the one that trains: started, told, and not waited for longer than
said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
LOG = "writer.log"  # what trackers print
# What a launcher tells a process of several: this one belongs to none of them, and computes nothing on a GPU.
_OF_A_RANK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Writer:
    """Starts it with an `opening` (run.py), and says what it reports: where each tracker writes, and what went wrong.

    Its messages are JSON, one a line, in both directions.
    """

    def __init__(self, opening: Mapping[str, Any]) -> None:
        folder = Path(opening["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hf_finetune.tracking.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                **_apart(),
            )
        self._unfinished = dict.fromkeys(opening["to"], "")
        self._ended = threading.Event()
        self._lost = False
        self._listener = threading.Thread(target=self._listen, daemon=True, name="tracking")
        self._listener.start()
        self._log = folder / LOG
        self.send({**opening, "arguments": sys.argv, "process": os.getpid()})

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand it over. A process that has died is said once, and the run goes on."""
        if self._process.stdin is None or self._lost:
            return
        try:
            self._process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            self._lost = True
            logger.warning("tracking: the process that writes has ended (see %s); the run goes on.", self._log)

    def close(self, end: str, within_s: float) -> None:
        """Say how the run ended, and wait so many seconds until all is written. What is not done then is ended."""
        self.send({"end": end})
        with suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            if not self._ended.wait(within_s):
                for tracker, remedy in self._unfinished.items():
                    hint = f" {remedy}" if remedy else ""
                    logger.warning("tracking: %s has not taken everything within %.0f s.%s", tracker, within_s, hint)
        finally:  # also where a person does not wait
            with suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._listener.join(timeout=1.0)
            with suppress(OSError):
                if self._process.stdout is not None:
                    self._process.stdout.close()

    def _listen(self) -> None:
        """Say what it reports, until it has nothing more to say."""
        if self._process.stdout is None:
            return
        with suppress(OSError, ValueError):  # closed under it
            for line in self._process.stdout:
                self._hear(json.loads(line))
        self._ended.set()

    def _hear(self, said: Mapping[str, Any]) -> None:
        tracker = said.get("tracker", "")
        if "where" in said:
            logger.info("tracking: %s in %s (%s)", tracker, said["where"], said["look"])
            self._unfinished[tracker] = said.get("remedy", "")
        elif "problem" in said:
            logger.warning("tracking: %s: %s", tracker, said["problem"])
        if said.get("finished"):
            self._unfinished.pop(tracker, None)
        if said.get("done"):
            self._ended.set()


def _environment() -> dict[str, str]:
    """This process's, without what makes it one of several, and with this package where it is imported from."""
    root = str(Path(__file__).resolve().parents[2])
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in _OF_A_RANK and not key.startswith(("ACCELERATE_", "TORCHELASTIC_"))
    }
    paths = [root, *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


def _apart() -> dict[str, Any]:
    """Ctrl-C is for the run, which then says how it ended."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
