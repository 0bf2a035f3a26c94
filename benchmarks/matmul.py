"""How fast this machine multiplies matrices, and how many operations a step takes: what share of it a step reaches.

Owns the two counts; what is measured with them is the benchmarks' own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE = 2048
FLOPS = 2 * SIDE**3  # of one product: two for each multiply-add
DEVICE_SIDE = 8192  # a GPU does the smaller one in less time than it takes to ask for it
REPEATS = 5
WARM_S = 0.3  # a GPU that idled raises its clock within this


def matmul(dtype: torch.dtype, device: str = "cpu", side: int = SIDE) -> Callable[[], None]:
    """One square product, to be timed; done when the call returns."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)

    def multiply() -> None:
        torch.mm(a, b, out=out)
        if out.is_cuda:
            torch.cuda.synchronize()

    return multiply


def matmul_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Operations a second of square products, of side 2048 with torch's threads of now, on a GPU of side 8192.

    The median of five after some to warm up. Where a step is timed too, time `matmul` in turns with it instead.
    """
    side = SIDE if device == "cpu" else DEVICE_SIDE
    multiply, taken = matmul(dtype, device, side), []
    began = time.perf_counter()
    multiply()
    while device != "cpu" and time.perf_counter() - began < WARM_S:
        multiply()
    for _ in range(REPEATS):
        started = time.perf_counter()
        multiply()
        taken.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(taken)


def count_flops(step: Callable[[], Any]) -> int:
    """Operations of the matrix products and convolutions of one call; everything else counts nothing."""
    # torch 2.15 counts addmm but not addmm in place, which low-memory LoRA uses.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops}) as counter:
        step()
    return int(counter.get_total_flops())


def _addmm_flops(_: Any, left: torch.Size, right: torch.Size, **__: Any) -> int:
    """Of [m, k] times [k, n], by their shapes."""
    return 2 * left[0] * left[1] * right[1]
