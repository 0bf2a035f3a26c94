"""A small run on classes whose names a page could take for something else, and its demo as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import cli
from tests.cli.photos import CLASSES, train_probe, write_photos_and_table

__all__ = ["cli"]
NAMED = dict(zip(CLASSES, ("<b>n/a</b>", "${6*7} {{value}}", 'grün, "hell"'), strict=True))
# Writes down whom the process asks, then is the command line.
WATCHED = """
import sys
place = sys.argv.pop(1)
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        asked = arguments[1] if event == "socket.connect" else arguments[0]
        with open(place, "a") as file:
            print(asked[0] if isinstance(asked, tuple) else asked, file=file)
sys.addaudithook(watch)
from hf_finetune.cli.process import run
run()
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three brightnesses, and photos.csv with the class of each."""
    return write_photos_and_table(tmp_path_factory.mktemp("photos"), NAMED).parent


@pytest.fixture(scope="session")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_probe(folder / "photos.csv", tmp_path_factory.mktemp("run") / "run")


@dataclass
class Running:
    """A demo that answers at `address`; `left`: the folder that its temporary files are in."""

    process: subprocess.Popen[str]
    address: str
    first_line: str
    place: Path
    left: Path
    asked: Path

    def ended(self, number: int) -> tuple[int, str]:
        """Exit code and standard error after a signal."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def running(trained: Path, place: Path, *options: str) -> Iterator[Running]:
    """A process of its own, in the folder `place`."""
    left = place / "left"
    left.mkdir(parents=True)
    cwd = place / "cwd"
    cwd.mkdir()
    asked = place / "asked.txt"
    asked.touch()
    environment = {**os.environ, "TMPDIR": str(left), "TEMP": str(left), "GRADIO_ALLOWED_PATHS": "/etc",
                   "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[3]),
                                                               os.environ.get("PYTHONPATH", "")]))}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(asked), "demo", str(trained), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
        # Jobs in the background of a shell inherit an ignored SIGINT.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+) shows ", line)
        if found is None:
            process.kill()
            raise AssertionError(f"{line!r}; {process.communicate()[1]}")
        yield Running(process, found[1], line, cwd, left, asked)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def demo(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that every test may ask, on a port that was free."""
    with running(trained, tmp_path_factory.mktemp("demo") / "one", "--port", "0") as found:
        yield found


def wait_until(done: object, seconds: float = 60) -> None:
    """Until the function `done` says so."""
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)
