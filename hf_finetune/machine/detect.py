"""What the machine has and what this process may use of it. Imports torch (only when called)."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

from hf_finetune.types import Machine


def detect(memory_limit_bytes: int | None = None) -> Machine:
    """Detect the machine. `memory_limit_bytes` (the recipe's `budget.memory`) caps the training device's memory."""
    import torch

    device = training_device()
    ram = free_ram_bytes()
    if device == "cuda":
        index = int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
        free, _ = torch.cuda.mem_get_info(index)
        name, bf16 = torch.cuda.get_device_name(index), torch.cuda.is_bf16_supported(including_emulation=False)
    elif device == "mps":
        free, name, bf16 = min(ram, torch.mps.recommended_max_memory()), "Apple GPU", True
    elif device == "xpu":
        free, name, bf16 = torch.xpu.get_device_properties(0).total_memory, torch.xpu.get_device_name(0), True
    else:
        free, name, bf16 = ram // local_world_size(), cpu_name(), cpu_has_bf16()
    return Machine(
        device=device,
        device_name=name,
        device_memory_bytes=min(free, memory_limit_bytes) if memory_limit_bytes else free,
        ram_bytes=ram,
        cores=usable_cores(),
        bf16=bf16,
        world_size=int(os.environ.get("WORLD_SIZE", 1)),
        rank=int(os.environ.get("RANK", 0)),
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    )


def training_device() -> Literal["cpu", "cuda", "mps", "xpu"]:
    """cuda, xpu, mps or cpu. `ACCELERATE_USE_CPU` (set by `accelerate launch` with use_cpu) forces the CPU."""
    import torch

    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    # MPS has no collectives: several processes on a Mac train on its CPU.
    if torch.backends.mps.is_available() and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return "mps"
    if torch.xpu.is_available():
        return "xpu"
    return "cpu"


def limit_memory(machine: Machine, most_bytes: int) -> None:
    """Have torch refuse this process more than `most_bytes` of its GPU: a larger update is replayed in halves.

    CUDA's own context, some hundred MB, is outside of what torch counts. No other device has such a limit.
    """
    import torch

    if machine.device == "cuda":
        whole = torch.cuda.get_device_properties(machine.local_rank).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most_bytes / whole), machine.local_rank)


def usable_cores() -> int:
    """Cores that this process may run on: affinity and the container's CPU quota counted."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cgroup_numbers("cpu.max")
    if len(quota) == 2 and quota[1] > 0:
        count = min(count, max(1, quota[0] // quota[1]))
    return count


def local_world_size() -> int:
    """Processes of this run on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", 1)))


def free_ram_bytes() -> int:
    """RAM that can be taken now: what is available, or less where the container has a limit."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _cgroup_numbers("memory.max"), _cgroup_numbers("memory.current")
    if limit and used:
        free = min(free, max(0, limit[0] - used[0] + _cgroup_file_cache()))
    return free


def _cgroup_file_cache() -> int:
    """Bytes of read files that the container is counted for, and that the kernel drops when memory is asked for."""
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))


def _cgroup_numbers(name: str) -> list[int]:
    """The integers of a cgroup-v2 control file; none where it is absent or says `max`."""
    try:
        words = Path("/sys/fs/cgroup", name).read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; elsewhere bf16 is emulated and slower than float32."""
    import torch

    # Asked of torch, whose kernels will do the work. Keys as torch 2.15 names them.
    have = torch.cpu.get_capabilities()
    return bool(have.get("avx512_bf16") or have.get("amx_bf16") or have.get("bf16"))


def cpu_name() -> str:
    """The processor's name, as /proc/cpuinfo or the platform gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
