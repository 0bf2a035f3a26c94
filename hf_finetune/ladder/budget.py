"""The wall-clock budget of a run: what is left of it for a rung, once the end of the run is paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Saving, verifying, writing the report and leaving the interpreter, without loading and scoring (measured 2.2 s with
# ViT-Tiny on two cores, AMD EPYC, 2026-11-23).
CLOSING_S = 2.5
# A forward pass with LoRA (low_memory.py) against the bare backbone's (ViT-Tiny on a CPU, 2026-11-23).
LORA_FORWARD = 1.2


@dataclass(frozen=True)
class Budget:
    """`seconds` from process start to exit, `spent` so far; `load_s`: what loading the saved result will take."""

    seconds: float
    spent: Callable[[], float]
    load_s: float
    test_rows: int

    def end_s(self, image_s: float) -> float:
        """What the end of the run takes: verified save, and the test at `image_s` a bare forward pass."""
        return CLOSING_S + self.load_s + self.test_rows * image_s * LORA_FORWARD

    def left_s(self, image_s: float) -> float:
        """Seconds that a rung may take from now."""
        return self.seconds - self.spent() - self.end_s(image_s)
