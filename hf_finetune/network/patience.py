"""Calls to the Hub that may fail for a moment: tried again with growing, jittered waits, and reported when they do not.

huggingface_hub retries downloads and blob uploads; it does not retry creating, asking about or committing to a repo.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")
# 408 and 429 ask for another try; the 5xx are the Hub's or its proxies' own troubles. 507 (no room) does not pass.
_PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How often a call is tried, and how long the waits between grow (seconds; the middle of the jitter).

    A call that had no answer for `given_up_s` is not made again: whoever was called has tried again itself meanwhile.
    """

    tries: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    given_up_s: float = float("inf")

    def wait_s(self, failures: int, asked_s: float | None) -> float:
        """Seconds to wait after so many failures; `asked_s` is what the Hub's Retry-After asked for."""
        if asked_s is not None:
            return min(asked_s, 4 * self.most_s)
        return min(self.first_s * 2 ** (failures - 1), self.most_s) * random.uniform(0.5, 1.5)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: blob uploads wrap theirs in a RuntimeError."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the error came from; None where there was no answer."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError | httpx2.HTTPStatusError):
            return cause.response.status_code
    return None


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment: no answer, a broken one, or the Hub is busy."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes(error)):
        return False
    status = status_of(error)
    if status is not None:
        return status in _PASSING
    return any(isinstance(cause, httpx2.TransportError | ConnectionError | TimeoutError) for cause in causes(error))


def retry_after_s(error: BaseException) -> float | None:
    """The Hub's Retry-After in seconds; None where it gave none, or a date."""
    for cause in causes(error):
        response: Any = getattr(cause, "response", None)
        if response is not None:
            value = response.headers.get("Retry-After", "")
            return float(value) if value.isdigit() else None
    return None


def patiently(call: Callable[[], T], what: str, patience: Patience, *, who: str = "the Hub") -> T:
    """The call's result; an error that may pass is waited out, any other (and the last) is raised as it is. `who`
    answers, in the message of a wait."""
    for failures in range(1, patience.tries + 1):
        started = time.monotonic()
        try:
            return call()
        except (OSError, RuntimeError, ValueError, *http_errors()) as error:
            given_up = status_of(error) is None and time.monotonic() - started > patience.given_up_s
            if failures == patience.tries or given_up or not may_pass(error):
                raise
            wait(what, error, failures, patience, who)
    raise AssertionError("the loop above returns or raises")


def wait(what: str, error: BaseException, failures: int, patience: Patience, who: str = "the Hub") -> None:
    """Say why, and wait."""
    seconds = patience.wait_s(failures, retry_after_s(error))
    status = status_of(error)
    why = f"{who} answered {status}" if status else f"no answer ({type(error).__name__})"
    logger.info("%s: %s; trying again in %.1f s.", what, why, seconds)
    time.sleep(seconds)


def http_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's client raises that is no OSError: no connection, a proxy's refusal, a broken answer."""
    import httpx2

    return (httpx2.HTTPError,)
