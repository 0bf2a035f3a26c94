"""Sums over the processes of a run; each is the identity where there is one process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from hf_finetune.machine.interruption import waiting

BUCKET_ELEMENTS = 16_000_000  # 64 MB of float32 copied at a time


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if is_distributed() else 0


def is_distributed() -> bool:
    """Whether several processes train together."""
    return world_size() > 1


def any_rank(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Which of the flags is set on any process."""
    if not is_distributed():
        return list(flags)
    return (sum_over_ranks(torch.tensor(flags, dtype=torch.float32, device=device)) > 0).tolist()


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, on each of them."""
    return _reduced(value.clone()) if is_distributed() else value


def sum_tensors_over_ranks(tensors: Sequence[torch.Tensor]) -> None:
    """Sum each tensor over all processes in place, many small ones in one message."""
    if not is_distributed():
        return
    bucket: list[torch.Tensor] = []
    for position, tensor in enumerate(tensors):
        bucket.append(tensor)
        full = sum(t.numel() for t in bucket) >= BUCKET_ELEMENTS
        if full or position == len(tensors) - 1:
            flat = torch.cat([t.reshape(-1) for t in bucket])
            for target, part in zip(bucket, _reduced(flat).split([t.numel() for t in bucket]), strict=True):
                target.copy_(part.view_as(target))
            bucket = []


def max_over_ranks(value: float) -> float:
    """The largest of a number over all processes, on each of them."""
    if not is_distributed():
        return value
    return float(_reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX))


def _reduced(tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> torch.Tensor:
    """The tensor reduced over all processes, in place where it can be. NCCL knows only tensors of its GPUs."""
    wire = tensor.cuda() if dist.get_backend() == "nccl" and not tensor.is_cuda else tensor
    with waiting():
        dist.all_reduce(wire, op=operation)
    return wire.to(tensor.device)
