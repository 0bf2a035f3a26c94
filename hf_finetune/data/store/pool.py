"""The parent's side of the worker processes: starting them, handing out rows, noticing deaths, leaving none behind."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, final

from hf_finetune.data.store.decode import Failed, Job, Result, Task
from hf_finetune.data.store.worker import receive, send
from hf_finetune.errors import MachineError

logger = logging.getLogger(__name__)

# A row whose worker died is tried once more in a fresh one; then it is the culprit.
TRIES = 2
# Beyond this many deaths the machine is at fault, not a few rows.
MAX_DEATHS = 10
# A worker that a signal ended before it had loaded its job is replaced; after so many in one place the machine is at
# fault.
MAX_STARTS = 3
MAX_CHUNK = 32


@final
class WorkerPool:
    """`count` worker processes that decode images.

    `start()` may come long before `run()`, so that the processes import Pillow while this one imports torch. Use it as
    a context manager, or call `close()`: both end every process, whatever it is doing.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one worker was expected, found {count}")
        self.count = count
        self._workers: list[_Worker | None] = [None] * count
        self._closed = False
        self._lock = threading.Lock()  # a death and a close at the same time must not leave a process behind

    def start(self, count: int | None = None) -> None:
        """Starts the processes (or the first `count`) that are not running. Raises MachineError if refused."""
        for place, worker in enumerate(self._workers[:count]):
            if worker is None:
                self._workers[place] = _Worker()

    def close(self) -> None:
        """Ends every process and waits for it. A `run` that is under way in another thread raises MachineError."""
        self._closed = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            workers = [worker for worker in self._workers if worker is not None]
            self._workers = [None] * self.count
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: Job, tasks: Sequence[Task]) -> Generator[Result, None, None]:
        """Results in the order in which they come. Closing the iterator early ends the processes; the next run
        starts new ones.

        Raises MachineError where workers cannot start or keep dying.
        """
        if self._closed:
            raise MachineError("image workers: an open pool was expected, this one was closed", "start a new one")
        round_ = _Round(self, job, tasks)
        self.start(round_.width)
        finished = False
        try:
            yield from round_.results()
            finished = True
        finally:
            round_.stop()
            if not finished:
                self._kill()
            round_.join()

    def _worker_at(self, place: int) -> _Worker | None:
        return None if self._closed else self._workers[place]

    def _replace(self, place: int) -> None:
        with self._lock:
            worker = self._workers[place]
            if worker is not None:
                worker.kill()
                worker.wait()
            self._workers[place] = None if self._closed else _Worker()


class _Round:
    """One call of `run`: the tasks still to do, one thread for each worker, and the queue of what comes back."""

    def __init__(self, pool: WorkerPool, job: Job, tasks: Sequence[Task]) -> None:
        self._pool = pool
        # Pickled once, here, so that a reader that cannot travel fails in the caller's thread.
        self._job = pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
        size = max(1, min(MAX_CHUNK, len(tasks) // (4 * pool.count)))
        self._chunks = deque(list(tasks[start : start + size]) for start in range(0, len(tasks), size))
        self._expected = len(tasks)
        self.width = min(pool.count, len(self._chunks))
        self._deaths: Counter[int] = Counter()  # by row
        self._starts: Counter[int] = Counter()  # by place: workers that a signal ended before they had loaded the job
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Result | MachineError] = queue.SimpleQueue()
        self._stop = False
        self._threads = [
            threading.Thread(target=self._serve, args=(place,), daemon=True, name=f"image-worker-{place}")
            for place in range(self.width)
        ]

    def results(self) -> Iterator[Result]:
        for thread in self._threads:
            thread.start()
        seen = 0
        while seen < self._expected:
            try:
                item = self._queue.get(timeout=0.2)  # a bare get() cannot be interrupted on Windows
            except queue.Empty:
                if not any(thread.is_alive() for thread in self._threads) and self._queue.empty():
                    raise MachineError("image workers: the pool was closed before all rows were decoded") from None
                continue
            if isinstance(item, MachineError):
                raise item
            seen += 1
            yield item

    def stop(self) -> None:
        """No further chunk is handed out, and a death is no longer news."""
        self._stop = True

    def join(self) -> None:
        """Waits for the threads; call `stop` first."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _next(self) -> list[Task] | None:
        with self._lock:
            return self._chunks.popleft() if self._chunks and not self._stop else None

    def _serve(self, place: int) -> None:
        sent_to: _Worker | None = None
        while (chunk := self._next()) is not None:
            worker = self._pool._worker_at(place)
            if worker is None:
                return
            try:
                if worker is not sent_to:
                    worker.greet()
                    worker.send(("job", self._job))
                    worker.receive()
                    sent_to = worker
                worker.send(("tasks", chunk))
                while chunk:
                    result = worker.receive()
                    self._queue.put(result)
                    chunk = chunk[1:]
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                # ValueError: the pipe object was closed by close() in another thread.
                if not self._mourn(place, worker, chunk, able=worker is sent_to):
                    return

    def _mourn(self, place: int, worker: _Worker, left: list[Task], *, able: bool) -> bool:
        """Puts a dead worker's rows back and replaces it. False: this thread is done.

        `able`: it had started and loaded its job, so that a row may be to blame.
        """
        if self._pool._closed or self._stop:
            return False
        end = worker.describe_end()
        if not able and not self._start_again(place, worker, left, end):
            return False
        if able and not self._blame(left, end):
            return False
        try:
            self._pool._replace(place)
        except MachineError as error:
            self._queue.put(error)
            return False
        return True

    def _start_again(self, place: int, worker: _Worker, left: list[Task], end: str) -> bool:
        """Puts all rows back and blames none, if a signal ended the worker. False: the run ends with an error.

        A signal comes from outside, so another worker may well start. An exit code is the worker's own, and the next
        one would end as it did. Windows has no signals: a process that is killed there ends with a code of its
        killer's choice, commonly 1 as after a traceback, so that every early end is an error at once.
        """
        expected = f"image workers: a process that decodes images was expected to start, it ended with {end}"
        if not worker.ended_by_signal():
            self._fail(expected, "data in memory must be of classes that another process can import")
            return False
        with self._lock:
            self._starts[place] += 1
            self._chunks.appendleft(left)
        if self._starts[place] == MAX_STARTS:
            self._fail(expected, "memory is the usual cause: lower train.decode_workers")
            return False
        logger.warning("an image worker died before its first row (%s); another one takes its place", end)
        return True

    def _blame(self, left: list[Task], end: str) -> bool:
        """Puts the rows back, or names the first one if it killed two workers. False: the run ends with an error."""
        with self._lock:
            culprit, rest = left[0], left[1:]
            self._deaths[culprit.slot] += 1
            if self._deaths.total() > MAX_DEATHS:
                message = f"image workers: {MAX_DEATHS} processes died while decoding, the last with {end}"
                self._fail(message, "memory is the usual cause: lower train.decode_workers or data.max_pixels")
                return False
            if rest:
                self._chunks.appendleft(rest)
            if self._deaths[culprit.slot] < TRIES:
                logger.warning("an image worker died (%s); its row is tried once more", end)
                self._chunks.append([culprit])
            else:
                self._queue.put(Failed(culprit.slot, f"decoding it ended {TRIES} worker processes ({end})"))
        return True

    def _fail(self, message: str, hint: str) -> None:
        self._queue.put(MachineError(message, hint))


class _Worker:
    """One child process and its two pipes."""

    def __init__(self) -> None:
        # A file, not a pipe: nobody reads it unless the child dies, and a full pipe would stop the child.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in wait()
        self._greeted = False
        try:
            self._process = subprocess.Popen(
                # -P: a file of the user's named like a library, beside the script, must not be imported instead of it.
                [sys.executable, "-P", "-W", "ignore", "-m", "hf_finetune.data.store.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_environment(),
            )
        except OSError as error:
            self._stderr.close()
            raise MachineError(
                f"image workers: a process that decodes images was expected to start, the system refused: {error}",
                "check the limits on processes and memory",
            ) from error

    def greet(self) -> None:
        """Waits until the child is up. Raises EOFError or OSError where it died before."""
        if not self._greeted:
            self.send([path for path in sys.path if path])
            self.receive()
            self._greeted = True

    def send(self, message: Any) -> None:
        send(self._pipe(self._process.stdin), message)

    def receive(self) -> Any:
        return receive(self._pipe(self._process.stdout))

    @staticmethod
    def _pipe(pipe: Any) -> BinaryIO:
        return pipe

    def describe_end(self) -> str:
        """Exit code or signal, and the last line that the child wrote to its standard error."""
        try:
            code = self._process.wait(timeout=5)  # its pipe closes a moment before it ends
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        if self._stderr.closed:
            return f"exit code {code}"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{cause}: {lines[-1]}" if lines else cause

    def ended_by_signal(self) -> bool:
        """Call `describe_end` first, which waits for the end."""
        return (self._process.poll() or 0) < 0

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def wait(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still in the buffer cannot reach a dead process
                    continue
        self._stderr.close()


def _environment() -> dict[str, str]:
    """The child finds this very package, and keeps to one thread."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
