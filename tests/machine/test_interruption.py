"""Signals: raised at once or held until an update ends, their exit codes, and waits that end afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from hf_finetune.machine import interruption
from hf_finetune.machine.interruption import exit_code, has_come, held, listen, waiting

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")


@pytest.fixture(autouse=True)
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(interruption, "_heard", [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def come(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "variable", "code"),
    [
        (signal.SIGTERM, None, 130),
        (signal.SIGTERM, "SLURM_JOB_ID", 75),
        (signal.SIGTERM, "KUBERNETES_SERVICE_HOST", 75),
        (signal.SIGTERM, "SKYPILOT_TASK_ID", 75),
        (signal.SIGTERM, "RAY_JOB_ID", 75),
        (signal.SIGINT, "SLURM_JOB_ID", 130),  # a person at a terminal of a job
    ],
)
def test_a_scheduler_is_told_to_try_again(
    number: signal.Signals, variable: str | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(KeyboardInterrupt, match=f"ended by signal {number.value}"):
        come(number)
    assert exit_code() == code


def test_one_is_held_and_a_second_is_not() -> None:
    with held(True):
        come(signal.SIGTERM)
        assert has_come()
        with pytest.raises(KeyboardInterrupt):
            come(signal.SIGTERM)


def test_none_is_held_for_one_process() -> None:
    with held(False), pytest.raises(KeyboardInterrupt):
        come(signal.SIGTERM)


def test_a_wait_after_an_interruption_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "LAST_WAIT_S", 0.1)
    ended: list[tuple[str, int]] = []
    over = threading.Event()

    def end(message: str, code: int) -> None:
        ended.append((message, code))
        over.set()

    with waiting(end):
        assert not over.wait(0.5)  # nothing has come
    with pytest.raises(KeyboardInterrupt):
        come(signal.SIGTERM)
    with waiting(end):
        assert over.wait(10)
    assert ended[0][0].startswith("the other processes did not come to save within") and ended[0][1] == 130
