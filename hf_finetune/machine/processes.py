"""The processes of a run: how they find each other, wait for each other, and agree. Imports torch and accelerate."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from hf_finetune.errors import MachineError
from hf_finetune.labels import Answers
from hf_finetune.machine.interruption import waiting
from hf_finetune.machine.peers import Peers, end_process
from hf_finetune.types import Machine
from hf_finetune.units import format_seconds

T = TypeVar("T")
# Of a wait for the others, which may be as long as they are well: peers.py ends it where they are not.
TIMEOUT = timedelta(days=30)
COME_WITHIN_S = 900.0  # machines of a cluster start apart; imports from a cold network disk take minutes
_peers: Peers | None = None


def join(machine: Machine, peer_timeout_s: float = 300.0) -> None:
    """Form the process group, if there are several. Raises MachineError where another number runs than was asked for.

    From then on a rank that gives no sign of life for so many seconds ends this process (peers.py).

    The Trainer ignores its own timeout on CPUs (seen with transformers 5.23, 2026-11-23), so the group is made here.
    """
    from accelerate import PartialState

    with _all_come(machine):
        state = PartialState(cpu=machine.device == "cpu", timeout=TIMEOUT)
    environment = os.environ
    # `accelerate launch --cpu --num_processes 2` starts one process: it sets a port to meet at, and no world size.
    alone = "WORLD_SIZE" not in environment and {"MASTER_PORT", "ACCELERATE_MIXED_PRECISION"} <= environment.keys()
    asked = "several" if alone else machine.world_size
    if alone or state.num_processes != asked:
        raise MachineError(
            f"{asked} processes were asked for, but {state.num_processes} runs.",
            "On CPUs use accelerate_configs/cpu_multi.yaml: `accelerate launch --cpu` silently runs one process. "
            "If one is what you want, unset MASTER_PORT.",
        )
    if state.num_processes > 1:
        _listen(state.process_index, state.num_processes, peer_timeout_s)


@contextmanager
def _all_come(machine: Machine) -> Iterator[None]:
    """End this process where the others do not come: one that died before has no heart yet that could be missed."""
    message = (
        f"rank {machine.rank}: not all {machine.world_size} processes came within {format_seconds(COME_WITHIN_S)}: one "
        "of them ended, or MASTER_ADDR and MASTER_PORT do not name rank 0's machine for all of them.\n"
        "  Start all of them again."
    )
    late = threading.Timer(COME_WITHIN_S, end_process, (message,))
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def _listen(rank: int, count: int, timeout_s: float) -> None:
    global _peers
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] - as torch documents it

    def connect() -> TCPStore:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout_s))

    token = agree(secrets.token_hex(8))  # an elastic launcher's store outlives a run that it starts again
    _peers = Peers(rank, count, timeout_s, token, connect, end_process)
    _peers.announce()
    wait()
    _peers.start()


def agree(value: T) -> T:
    """Rank 0's value, on every rank."""
    import torch.distributed as dist

    if not are_several():
        return value
    box: list[Any] = [value]
    with waiting():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """Every rank's value in rank order, on every rank."""
    import torch.distributed as dist

    if not are_several():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    with waiting():
        dist.all_gather_object(found, value)
    return found


def gather_answers(own: np.ndarray, found: Answers | None) -> Answers:
    """Every rank's answers to its rows `own` int64 [n] of one split (None: it has none), as answers to the split."""
    parts = [(where, part) for where, part in gather((own, found)) if part is not None]
    return Answers.joined([part for _, part in parts], [where for where, _ in parts])


def wait() -> None:
    """Wait until every rank is here."""
    from accelerate import PartialState

    with waiting():
        PartialState().wait_for_everyone()


def leave() -> None:
    """Take the process group apart, so that a rank's exit is quiet."""
    import torch.distributed as dist

    if _peers is not None:
        _peers.leave()
    if are_several():
        dist.destroy_process_group()


def are_several() -> bool:
    """Whether other processes were met."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def is_first() -> bool:
    """Whether this is rank 0 (also before the group is formed and after it is left)."""
    return os.environ.get("RANK", "0") == "0"
