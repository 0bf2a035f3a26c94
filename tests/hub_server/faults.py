"""What goes wrong on purpose, by request: refusals, lost connections, half bodies and slow answers.

Owns the list of faults to come and the log of those that happened; thread-safe. Says what shall happen: `server` does
it. A test adds faults to a running server (`hub.server.faults`) and asserts afterwards that they happened.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "401",  # the token was revoked
    "403",  # the token has no right to this
    "412",  # somebody else has pushed
    "429",  # too many requests; `seconds` is the Retry-After
    "500",  # the server failed
    "503",  # the server is overloaded; `seconds` is the Retry-After, if above 0
    "507",  # the server's disk is full
    "drop",  # connection closed before anything is read or done
    "drop_body",  # connection closed in the middle of the request's body
    "drop_reply",  # everything is done, but the connection is closed before the answer
    "cut_reply",  # connection closed in the middle of the answer's body
    "slow",  # the answer comes `seconds` later
]


@dataclass
class Fault:
    """`kind` happens to requests whose "METHOD /path" (without query) `match` finds: `times` of them after `skip`."""

    kind: Kind
    match: re.Pattern[str]
    times: int
    skip: int
    seconds: float


class Faults:
    """The faults of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._applied: list[tuple[Kind, str]] = []

    def add(self, kind: Kind, match: str = "", times: int = 1, skip: int = 0, *, seconds: float = 0.0) -> None:
        """Let `kind` happen to the next `times` requests that match, after `skip` that pass unharmed.

        match: regular expression searched for in "METHOD /path". Several faults for one request happen in the order
        in which they were added, one each; `slow` leaves the request to a further fault. Raises ValueError for a kind
        that is none.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"a fault is one of {', '.join(get_args(Kind))}, found {kind}")
        with self._lock:
            self._faults.append(Fault(kind, re.compile(match), times, skip, seconds))

    def clear(self) -> None:
        """Let nothing more happen; the log stays."""
        with self._lock:
            self._faults.clear()

    @property
    def applied(self) -> list[tuple[Kind, str]]:
        """(kind, "METHOD /path") of every fault that happened, oldest first."""
        with self._lock:
            return list(self._applied)

    def take(self, request: str, *, body: bool) -> list[Fault]:
        """The faults of this request, "METHOD /path", used up and logged. `body`: it has one that can break off."""
        taken: list[Fault] = []
        with self._lock:
            for fault in self._faults:
                if fault.times <= 0 or not fault.match.search(request):
                    continue
                if (fault.kind == "drop_body" and not body) or (fault.kind == "cut_reply" and request[:5] == "HEAD "):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                taken.append(fault)
                self._applied.append((fault.kind, request))
                if fault.kind != "slow":
                    break
        return taken
