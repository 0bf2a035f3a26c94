"""The processes of a run: how they find each other, wait for each other, and agree. Imports torch and accelerate."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from hf_finetune.errors import MachineError
from hf_finetune.labels import Answers
from hf_finetune.types import Machine

T = TypeVar("T")
# A rank that is silent for longer is taken for dead; decoding a large dataset on rank 0 must fit in.
TIMEOUT = timedelta(hours=2)


def join(machine: Machine) -> None:
    """Form the process group, if there are several. Raises MachineError where another number runs than was asked for.

    The Trainer ignores its own timeout on CPUs (seen with transformers 5.23, 2026-11-23), so the group is made here.
    """
    from accelerate import PartialState

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


def agree(value: T) -> T:
    """Rank 0's value, on every rank."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """Every rank's value in rank order, on every rank."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def gather_answers(own: np.ndarray, found: Answers | None) -> Answers:
    """Every rank's answers to its rows `own` int64 [n] of one split (None: it has none), as answers to the split."""
    parts = [(where, part) for where, part in gather((own, found)) if part is not None]
    return Answers.joined([part for _, part in parts], [where for where, _ in parts])


def wait() -> None:
    """Wait until every rank is here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def leave() -> None:
    """Take the process group apart, so that a rank's exit is quiet."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is rank 0 (also before the group is formed and after it is left)."""
    return os.environ.get("RANK", "0") == "0"
