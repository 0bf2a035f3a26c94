"""Opens the images in a thread while the main one does something else, such as building the model.

Decoding is the work of other processes, so that the two share the cores. Owns the thread and its end; what is opened is
images.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hf_finetune.data.store.pool import WorkerPool

T = TypeVar("T")
POLL_S = 0.2  # a wait without an end cannot be interrupted on Windows


@contextmanager
def ahead(work: Callable[[WorkerPool], T], workers: int) -> Iterator[Callable[[], T]]:
    """Starts `work` and yields a function that waits for its result, or raises what it raised.

    Leaving the block ends the pool. Where it is left early (an error, Ctrl-C) the thread is not waited for: it fails at
    the closed pool, or may hang at a lock that another run holds.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run(pool: WorkerPool) -> None:
        try:
            found.append(work(pool))
        except BaseException as error:  # noqa: BLE001 - raised again by `result`, in the thread that waits
            failed.append(error)

    with WorkerPool(workers) as pool:
        thread = threading.Thread(target=run, args=(pool,), daemon=True, name="images")

        def result() -> T:
            while thread.is_alive():
                thread.join(POLL_S)
            if failed:
                raise failed[0]
            return found[0]

        thread.start()
        yield result
