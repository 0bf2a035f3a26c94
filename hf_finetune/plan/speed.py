"""How fast a machine is where nothing was measured on it: stated rates of arithmetic. Pure."""

from __future__ import annotations

from hf_finetune.types import Machine

# Floating-point operations a second in a forward pass, multiplications and additions both counted. Measured: ViT-Tiny
# (2.5 GFLOP an image) 20.4 ms an image on two cores of an Intel Xeon with bfloat16 in hardware, 62e9 a core
# (2026-11-28). The others are assumptions: a core without it does half of that, a GPU a fifth of what data sheets say.
CORE_BF16, CORE = 60e9, 30e9
DEVICES = {"cuda": 50e12, "mps": 2e12, "xpu": 10e12}
OLD_CUDA = 10e12  # without bfloat16
# Seconds of imports, loading, saving, verifying and scoring, whatever the images. Assumption, between 8 and 40.
FIXED_S = 15.0


def stated_flops(machine: Machine) -> float:
    """Operations a second of this process's part of the machine."""
    if machine.device == "cpu":
        return machine.cores * (CORE_BF16 if machine.bf16 else CORE)
    return DEVICES[machine.device] if machine.bf16 else OLD_CUDA


def stated(machine: Machine) -> str:
    """The rate in words: `120 GFLOP/s of 2 cores`."""
    rate = stated_flops(machine)
    amount = f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"
    cores = f"{machine.cores} core{'s' * (machine.cores > 1)}"
    return f"{amount} of {cores if machine.device == 'cpu' else machine.device}"
