"""The command line as a process of its own: quick to start and to end. `main()` alone sets two variables of the
environment and nothing else."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import NoReturn

from hf_finetune.cli import main
from hf_finetune.machine import process as collector

AGAIN_S = 0.05


def run() -> NoReturn:
    """What `hf-finetune` and `python -m hf_finetune` start."""
    code: list[int] = []
    # The first handler that is registered is the last to run: those of the libraries are done by then.
    atexit.register(_end, code)
    _lose_no_interruption()
    collector.collect_rarely()
    code.append(main())
    sys.exit(code[0])


def _lose_no_interruption() -> None:
    """Python drops what is raised in a destructor, a weak reference's or the collector's callback: a Ctrl-C or SIGTERM
    that arrives there (libraries have many while they are imported) is sent again, until it arrives elsewhere."""
    before = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            # Handled as soon as the destructor is left, and not within it.
            threading.Timer(AGAIN_S, _interrupt_main_thread).start()
        else:
            before(dropped)

    sys.unraisablehook = again


def _interrupt_main_thread() -> None:
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:  # which may be in a wait that only a signal of its own ends
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _end(code: list[int]) -> None:
    """Leave without taking every imported module apart, which takes 1.2 of 12 s (AMD EPYC, 2026-11-24).

    Threads have ended and the libraries' handlers have run. Not after a bug of ours, nor where what was printed cannot
    be written: then Python says so as ever.
    """
    if not code:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code[0])
