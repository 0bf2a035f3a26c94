"""Fixtures of the tests of pushing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hub_server.fixture import hub, in_process  # noqa: F401


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """huggingface_hub's own waits between tries (1 to 8 s each), taken at once; the list holds what was asked for."""
    waits: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time", _Clock(waits))
    yield waits


class _Clock:
    """The `time` module with a sleep that returns at once."""

    def __init__(self, waits: list[float]) -> None:
        self._waits = waits

    def sleep(self, seconds: float) -> None:
        self._waits.append(seconds)

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)
