"""Work in a thread with image workers: its result, its errors, and that nothing waits for it where it is given up."""

from __future__ import annotations

import threading
import time

import pytest

from hf_finetune.data.store.decode import Job, Task
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.views import Check
from hf_finetune.errors import DataError, MachineError
from hf_finetune.pipeline.ahead import ahead


def test_the_result_is_there_when_it_is_asked_for_and_the_work_ran_elsewhere() -> None:
    with ahead(lambda _: threading.current_thread().name, 1) as result:
        assert result() == "images"
        assert result() == "images"  # asked again


def test_what_the_work_raises_is_raised_where_it_is_asked_for() -> None:
    def work(_: WorkerPool) -> None:
        raise DataError("no image could be read")

    with pytest.raises(DataError, match="no image could be read"), ahead(work, 1) as result:
        time.sleep(0.05)  # the error does not strike the main thread by itself
        result()


class Sleeper:
    """A reader that never comes back, in the worker's process."""

    def read(self, locator: str | int) -> bytes:
        time.sleep(600)
        raise LookupError(locator)


@pytest.mark.e2e
def test_ctrl_c_beside_the_work_ends_the_workers_whatever_they_do() -> None:
    at_work, ended = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work(pool: WorkerPool) -> None:
        pool.start()
        at_work.set()
        try:
            list(pool.run(Job(Sleeper(), Check(()), 1_000, None), [Task(0, "photo.jpg")]))
        except MachineError as error:
            errors.append(error)
        ended.set()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ahead(work, 1):
        assert at_work.wait(60)
        raise KeyboardInterrupt
    assert ended.wait(60)
    assert "closed" in str(errors[0])
    assert time.monotonic() - started < 300  # and not the reader's ten minutes
