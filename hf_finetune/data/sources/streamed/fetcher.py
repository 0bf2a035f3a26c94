"""Files of a dataset that come and go: fetched one by one within a limit, the next while one is read.

Owns the folder that they lie in and its limit. What is in them is `listing.py`'s, what they are fetched with the
caller's.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from hf_finetune.errors import DataError
from hf_finetune.units import format_bytes

POLL_S = 0.2  # a wait without an end cannot be interrupted on Windows


@dataclass(frozen=True)
class RemoteFile:
    """A file by its name in the dataset, its split by the dataset's own name, and its bytes."""

    name: str
    split: str
    size: int


@final
class Fetcher:
    """The files of a dataset in `folder`, of `limit_bytes` together at most.

    The first ones that fit stay for the next time; of the others one or two are there at a time. `fetch` puts the file
    of a name into the folder, whole or not at all, and raises DataError. `held` is the right to the folder, which other
    processes wait for; a thread may take it again while it has it.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[RemoteFile],
        limit_bytes: int,
        fetch: Callable[[str], None],
        held: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._folder, self._files, self._limit, self._fetch, self._held = folder, files, limit_bytes, fetch, held
        self._in_use: set[int] = set()
        self._there: list[int] = []  # files that lie in the folder, in the order in which they were last wanted
        largest = max(files, key=lambda file: file.size)
        if largest.size > limit_bytes:
            raise DataError(
                f"data.download_limit: room for the largest file at least is expected, found "
                f"{format_bytes(limit_bytes)}: {largest.name} has {format_bytes(largest.size)}",
                f"raise it (at {format_bytes(2 * largest.size)} the next one comes meanwhile), free some disk, or set "
                "data.cache_dir to a larger disk",
            )

    def path(self, number: int) -> Path:
        """Where a file lies while it is there."""
        return self._folder / self._files[number].name

    @contextmanager
    def at_hand(self, number: int) -> Iterator[None]:
        """The file is there meanwhile. Raises DataError where it cannot be had."""
        if number in self._in_use:
            yield
            return
        with self._held():
            if not self._is_whole(number):
                self._look()
                self._obtain(number)
            with self._using(number):
                yield

    def in_turn(self, numbers: Sequence[int]) -> Iterator[int]:
        """Each of the files while it is there; the next is fetched meanwhile where the limit has room for both.

        Raises DataError where one cannot be had.
        """
        if not numbers:
            return
        with self._held():
            self._sweep()
            coming: _Coming | None = None
            for number, following in zip(numbers, [*numbers[1:], None], strict=True):
                if coming is not None:
                    coming.wait()
                self._obtain(number)
                with self._using(number):
                    coming = None if following is None else self._ahead(following)
                    yield number

    def let_go(self) -> None:
        """Removes what is there."""
        with self._held():
            self._sweep()
            for number in list(self._there):
                self._remove(number)

    def _sweep(self) -> None:
        # Half a file of a process that was killed: the Hub's client gives each try a name of its own, and goes on with
        # none of them (huggingface_hub 2.4). Whoever holds the folder fetches alone.
        for half in self._folder.glob(".cache/huggingface/download/**/*.incomplete"):
            half.unlink(missing_ok=True)
        self._look()

    def _look(self) -> None:
        self._there = [number for number in range(len(self._files)) if self._is_whole(number)]

    @contextmanager
    def _using(self, number: int) -> Iterator[None]:
        self._in_use.add(number)
        try:
            yield
        finally:
            self._in_use.discard(number)

    def _ahead(self, number: int) -> _Coming | None:
        """The file is fetched in a thread, where room can be made for it beside those in use."""
        if number in self._there or not self._make_room(number):
            return None
        return _Coming(lambda: self._fetch(self._files[number].name))

    def _obtain(self, number: int) -> None:
        if not self._is_whole(number):
            self._make_room(number)
            self._fetch(self._files[number].name)
        self._there = [*(each for each in self._there if each != number), number]

    def _make_room(self, number: int) -> bool:
        """Whether the file fits beside those that stay. The one that was wanted last goes first: reading in order, what
        was read first is wanted first the next time."""
        needed = sum(self._files[each].size for each in {*self._there, number})
        for each in reversed(self._there.copy()):
            if needed > self._limit and each not in self._in_use and each != number:
                self._remove(each)
                needed -= self._files[each].size
        return needed <= self._limit

    def _is_whole(self, number: int) -> bool:
        with suppress(OSError):
            return self.path(number).stat().st_size == self._files[number].size
        return False

    def _remove(self, number: int) -> None:
        with suppress(OSError):  # Windows keeps a file that a worker still has open: the next process removes it
            self.path(number).unlink()
        self._there.remove(number)


@final
class _Coming:
    """A file on its way, in a thread that is not waited for where the run ends before."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        self._failed: BaseException | None = None
        self._fetch = fetch
        self._thread = threading.Thread(target=self._run, daemon=True, name="fetching")
        self._thread.start()

    def wait(self) -> None:
        """Until it is there. Raises what the fetching raised."""
        while self._thread.is_alive():
            self._thread.join(POLL_S)
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._fetch()
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the thread that waits
            self._failed = error


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder that need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
