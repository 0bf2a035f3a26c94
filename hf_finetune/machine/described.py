"""A machine that is not this one, from a few words: `cuda:8GB`. For plans; nothing runs on it."""

from __future__ import annotations

from hf_finetune.errors import MachineError
from hf_finetune.types import Machine
from hf_finetune.units import format_bytes, parse_bytes

KINDS = ("cuda", "cpu", "mps", "xpu")
_EXPECTED = f"one of {', '.join(KINDS)} and its free memory is expected, such as cuda:8GB or cpu:16GB"


def described(text: str, memory_limit_bytes: int | None = None) -> Machine:
    """The machine that `text` says, one process on it; `memory_limit_bytes` (the recipe's `budget.memory`) caps it.

    It is taken to multiply bfloat16 in hardware, as GPUs since 2020 and CPUs with AVX512-BF16 or AMX do; a recipe's
    `train.precision` says otherwise. Raises MachineError for what cannot be read.
    """
    kind, _, memory = text.strip().partition(":")
    try:
        if kind not in KINDS or not memory:
            raise ValueError(_EXPECTED)
        size = parse_bytes(memory)
        if size <= 0:
            raise ValueError("more than 0 bytes are expected")
    except ValueError as error:
        hint = "Name kind and memory, such as --device cuda:8GB."
        raise MachineError(f"--device {text}: {error}.", hint) from None
    return Machine(
        device=kind,  # pyright: ignore[reportArgumentType]  one of KINDS
        device_name=f"a {kind} device with {format_bytes(size)} free",
        device_memory_bytes=min(size, memory_limit_bytes) if memory_limit_bytes else size,
        ram_bytes=size if kind == "cpu" else 16 * 10**9,
        cores=4,
        bf16=True,
        world_size=1,
        rank=0,
        local_rank=0,
        system="not this machine",
    )
