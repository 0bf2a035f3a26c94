"""Notices a peer that is gone: one that has died, was stopped, or cannot be reached any more.

Whoever waits for it in a collective would wait for hours; and a healthy one may be waited for as long, since rank 0
decodes a large dataset before the others have anything to do. So each rank has a heart: a thread that counts, whatever
the main one does. A peer is gone when its count has not changed for `timeout_s`, however long it has been waited for.

The counts are in the store through which the ranks found each other (MASTER_ADDR, MASTER_PORT), by a connection of this
module's own: torch's is held by whoever waits in it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from hf_finetune.errors import PeerError
from hf_finetune.units import format_seconds

LEFT = "left"  # what stands for the count of a rank that has done its work
GONE = PeerError.exit_code
LEAVE_S = 5.0
SLOWEST_S, A_TIMEOUT = 10.0, 20  # between two beats at most, and how many of them there are in a timeout


class Store(Protocol):
    """As much of torch's stores as is needed here."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...


class Peers:
    """The hearts of a run's ranks. `end(message)` is called once, by a thread, where a peer is gone."""

    def __init__(
        self,
        rank: int,
        count: int,
        timeout_s: float,
        token: str,
        connect: Callable[[], Store],
        end: Callable[[str], object],
    ) -> None:
        self._rank, self._timeout_s, self._token, self._connect, self._end = rank, timeout_s, token, connect, end
        self._every_s = min(SLOWEST_S, timeout_s / A_TIMEOUT)
        self._beats = 0
        self._said: dict[int, str] = {}
        self._seen = {other: time.monotonic() for other in range(count) if other != rank}
        self._left: set[int] = set()
        self._over = threading.Event()
        self._store: Store | None = None

    def announce(self) -> None:
        """Connect, and let the others find this rank's count. Raises what the store raises."""
        self._store = self._connect()
        self._store.set(self._key(self._rank), "0")

    def start(self) -> None:
        """Beat and listen from now on; call it once every rank has announced itself."""
        for work in (self._beat, self._watch):
            threading.Thread(target=work, daemon=True, name=f"peers-{work.__name__.strip('_')}").start()

    def leave(self) -> None:
        """This rank has done its work: it is missed by nobody from now on."""
        self._over.set()
        if self._store is not None:
            saying = threading.Thread(target=self._say_left, daemon=True, name="peers-leave")
            saying.start()
            saying.join(LEAVE_S)  # a store that has gone with rank 0 would be looked for during the whole timeout

    def _say_left(self) -> None:
        with suppress(Exception):  # torch raises several kinds; where the store has gone nobody is left to be told
            self._connect().set(self._key(self._rank), LEFT)  # the heart may still be using the other connection

    def _key(self, rank: int) -> str:
        return f"hf_finetune/{self._token}/{rank}"

    def _beat(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                if self._store is None:
                    self._store = self._connect()
                self._beats += 1
                self._store.set(self._key(self._rank), str(self._beats))
                for other in self._seen.keys() - self._left:
                    self._hear(other, self._store.get(self._key(other)).decode())
            except Exception:  # noqa: BLE001 - torch raises several kinds; whoever is not heard is missed by `_watch`
                self._store = None

    def _hear(self, other: int, said: str) -> None:
        if said == LEFT:
            self._left.add(other)
        elif said != self._said.get(other):
            self._said[other], self._seen[other] = said, time.monotonic()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(self._every_s):
            now = time.monotonic()
            if now - looked > self._timeout_s / 2:  # this process itself was stopped: the others may be well
                self._seen = dict.fromkeys(self._seen, now)
            looked = now
            silent = sorted(
                other for other in self._seen.keys() - self._left if now - self._seen[other] > self._timeout_s
            )
            if silent:
                self._over.set()
                self._end(self._told(silent, now))
                return

    def _told(self, silent: list[int], now: float) -> str:
        names = f"rank {silent[0]} has" if len(silent) == 1 else f"ranks {', '.join(map(str, silent))} have"
        since = format_seconds(max(now - self._seen[other] for other in silent))
        return (
            f"rank {self._rank}: {names} given no sign of life for {since} (train.peer_timeout): it died, was "
            "stopped, or its machine cannot be reached.\n  The same command goes on from the last whole checkpoint."
        )


def end_process(message: str, code: int = GONE) -> None:
    """Say it and leave at once: the main thread is in a wait that nothing else ends."""
    sys.stderr.write(f"hf-finetune: {message}\n")
    sys.stderr.flush()
    os._exit(code)
