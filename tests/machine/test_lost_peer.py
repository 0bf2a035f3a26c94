"""What torch raises where a peer is gone becomes words; what else it raises stays."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from hf_finetune.errors import PeerError
from hf_finetune.machine.lost_peer import lost_peers_are_said

RESET = (  # as torch 2.15 raised it when a rank was killed (2026-11-30)
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:4528: Connection "
    "reset by peer. This is typically caused by a remote worker hanging or bugs in the application. Check the logs."
)
NCCL = "NCCL error in: ProcessGroupNCCL.cpp, remote process exited or there was a network error, NCCL version 2.21.5"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(RESET), "(Read error [127.0.0.1]:4528: Connection reset by peer)"),
        (dist.DistBackendError(NCCL), "remote process exited"),
        (dist.DistNetworkError("The client socket has timed out"), "(The client socket has timed out)"),
    ],
)
def test_a_lost_peer_is_named(error: RuntimeError, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(PeerError, match=r"^rank 1: the connection to rank 0 is lost") as caught, lost_peers_are_said():
        raise error
    assert reason in caught.value.message and caught.value.exit_code == 75
    assert caught.value.__cause__ is error
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(PeerError, match=r"the connection to another of the 8 processes is lost"), lost_peers_are_said():
        raise error


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "2"),
        (dist.DistBackendError("NCCL error: unhandled cuda error: out of memory"), "2"),
        (RuntimeError(RESET), "1"),  # another program's, in a run of one process
        (ConnectionResetError("Connection reset by peer"), "2"),  # of a download
    ],
)
def test_another_error_stays_as_it_is(error: Exception, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(type(error)) as caught, lost_peers_are_said():
        raise error
    assert caught.value is error
