"""A peer that is gone is noticed and named; one that is only waited for is not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hf_finetune.machine.peers import GONE, Peers

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 1.0


class Shared:
    """A store in this process; `cut`: nobody can be reached."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.cut = False

    def set(self, key: str, value: str, /) -> None:
        if self.cut:
            raise ConnectionError("cut")
        self.values[key] = value

    def get(self, key: str, /) -> bytes:
        if self.cut:
            raise ConnectionError("cut")
        return self.values[key].encode()


def ranks(count: int, stores: list[Shared]) -> tuple[list[Peers], list[list[str]]]:
    said: list[list[str]] = [[] for _ in range(count)]
    peers = [Peers(rank, count, TIMEOUT_S, "t", lambda s=stores[rank]: s, said[rank].append) for rank in range(count)]
    for each in peers:
        each.announce()
    return peers, said


def test_hearts_that_beat_are_no_reason_to_end_however_long_one_waits() -> None:
    shared = Shared()
    peers, said = ranks(3, [shared] * 3)
    for each in peers:
        each.start()
    time.sleep(2.5 * TIMEOUT_S)
    peers[1].leave()  # it is done first
    time.sleep(1.5 * TIMEOUT_S)
    assert said == [[], [], []]
    for each in peers:
        each.leave()


def test_one_that_is_silent_is_named_to_the_others() -> None:
    shared = Shared()
    peers, said = ranks(3, [shared] * 3)
    peers[0].start()
    peers[2].start()  # rank 1 announced itself, and died
    time.sleep(2 * TIMEOUT_S)
    assert [len(each) for each in said] == [1, 0, 1]
    assert said[0][0].startswith("rank 0: rank 1 has given no sign of life for 1")
    assert "train.peer_timeout" in said[0][0] and "goes on from the last whole checkpoint" in said[0][0]


def test_whose_store_cannot_be_reached_ends_too() -> None:
    shared = Shared()
    peers, said = ranks(3, [shared] * 3)
    for each in peers:
        each.start()
    time.sleep(TIMEOUT_S / 2)
    shared.cut = True
    time.sleep(2 * TIMEOUT_S)
    assert [len(each) for each in said] == [1, 1, 1]
    assert "ranks 1, 2 have given no sign of life" in said[0][0]


PROGRAM = """
import sys, time
from hf_finetune.machine import processes
from hf_finetune.machine.detect import detect
machine = detect()
processes.join(machine, 2.0)
print("met", flush=True)
if machine.rank == 1:
    time.sleep(5)  # longer than the timeout: a rank that is only waited for
processes.gather(1)
print("gathered", flush=True)
if machine.rank == 1:
    time.sleep(600)
processes.gather(2)
"""


@pytest.mark.e2e
@pytest.mark.skipif(os.name == "nt", reason="SIGSTOP is POSIX's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_is_stopped_ends_the_other_in_words(how: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = started
    try:
        assert second.stdout is not None
        lines = [second.stdout.readline(), second.stdout.readline()]
        assert lines == ["met\n", "gathered\n"]
        second.send_signal(how)
        timer = threading.Timer(60, first.kill)
        timer.start()
        out, error = first.communicate()
        timer.cancel()
        assert out == "met\ngathered\n", error
        if how == signal.SIGSTOP:  # nothing but its heart tells: its sockets stay open
            assert first.returncode == GONE, error
            assert "rank 0: rank 1 has given no sign of life" in error
        else:
            assert first.returncode != 0
    finally:
        for each in started:
            each.kill()
            each.communicate()


@pytest.mark.e2e
def test_ranks_that_never_come_are_not_waited_for_without_end() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    program = "from hf_finetune.machine import processes\nprocesses.COME_WITHIN_S = 3.0\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **alone, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == GONE, done.stderr
    assert "rank 0: not all 2 processes came within 3.0 s: one of them ended, or MASTER_ADDR" in done.stderr
