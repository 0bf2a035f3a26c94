"""Autocast as one switch: on with a type, off with None."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_type(precision: str) -> torch.dtype | None:
    """What autocast computes in at this precision of the plan; None for fp32, where it stays off."""
    return _TYPES.get(precision)


def autocast(device_type: str, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """torch's autocast on `device_type` (cpu, cuda, mps); nothing where `dtype` is None."""
    return nullcontext() if dtype is None else torch.autocast(device_type, dtype)
