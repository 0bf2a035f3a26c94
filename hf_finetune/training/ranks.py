"""Sums over the processes of a run; each is the identity where there is one process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

BUCKET_ELEMENTS = 16_000_000  # 64 MB of float32 copied at a time


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any process."""
    if not is_distributed():
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)) > 0)


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, on each of them."""
    if is_distributed():
        value = value.clone()
        dist.all_reduce(value)
    return value


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
            dist.all_reduce(flat)
            for target, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                target.copy_(part.view_as(target))
            bucket = []


def max_over_ranks(value: float) -> float:
    """The largest of a number over all processes, on each of them."""
    if not is_distributed():
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    box = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return float(box)
