"""Ctrl-C and SIGTERM, and how several processes end together by them. Imports nothing heavy.

One process ends where it is. Of several, one may wait in a collective for another that has left to save, and both would
wait for ever: so while they train, a signal is held until the end of an update, where all of them ask whether one of
them has got it. Elsewhere it is raised at once, and from then on no wait for the others lasts long (`waiting`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from hf_finetune.machine.launcher import under_scheduler
from hf_finetune.machine.peers import GONE, end_process

INTERRUPTED = 130  # the exit code of Ctrl-C, as shells have it
LAST_WAIT_S = 20.0  # torch's launcher kills 30 s after the signal (TORCH_ELASTIC_SHUTDOWN_TIMEOUT)
_heard: list[int] = []  # signals that came, in their order
_holding = False
_same_follows = False


def listen() -> None:
    """SIGTERM, as a scheduler sends it, is an interruption too; of several processes so is each Ctrl-C."""
    signal.signal(signal.SIGTERM, _hear)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        signal.signal(signal.SIGINT, _hear)


def exit_code() -> int:
    """Of an interrupted run: 75 after a scheduler's SIGTERM, so that it is started again and not taken for failed."""
    return code_of(signal.SIGTERM if signal.SIGTERM in _heard else signal.SIGINT)


def code_of(number: int) -> int:
    """The exit code of a run that this signal ends."""
    return GONE if number == signal.SIGTERM and under_scheduler() else INTERRUPTED


def has_come() -> bool:
    """Whether a signal came to this process."""
    return bool(_heard)


def end_together() -> NoReturn:
    """Raise what one of the processes has got. The others will get it while they save, if at all: that is the same."""
    global _same_follows
    if not _heard:
        _same_follows = True
        _heard.append(signal.SIGTERM)
    raise KeyboardInterrupt(f"ended by signal {_heard[0]}")


@contextmanager
def held(several: bool) -> Iterator[None]:
    """With several processes the first signal only counts as come inside; a second, of somebody in a hurry, is raised
    at once."""
    global _holding
    _holding = several
    try:
        yield
    finally:
        _holding = False


@contextmanager
def waiting(end: Callable[[str, int], object] = end_process) -> Iterator[None]:
    """Around each wait for the other processes: after an interruption it ends the process before it is killed."""
    if not _heard or _holding:
        yield
        return
    message = (
        f"the other processes did not come to save within {LAST_WAIT_S:.0f} s of the interruption.\n"
        "  The same command goes on from the last whole checkpoint."
    )
    timer = threading.Timer(LAST_WAIT_S, end, (message, exit_code()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hear(number: int, frame: FrameType | None) -> None:
    global _same_follows
    del frame
    _heard.append(number)
    if _same_follows:
        _same_follows = False
        return
    if not (_holding and len(_heard) == 1):
        raise KeyboardInterrupt(f"ended by signal {number}")
