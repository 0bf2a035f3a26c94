"""Products in integer arithmetic: which this machine has, and x Wᵀ for int8 weights with a scale a row.

Activations get a scale a token. One scale for a whole activation is no choice: ViT-Tiny's GELU outputs then lose 44 %
of the features, with a scale a token 5 % (3 % of them by the weights; 40 photos, 2026-11-28).
"""

from __future__ import annotations

import platform
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from hf_finetune.types import Compute

# Of activations; -128 is left out, so that rounding up cannot wrap. bfloat16 rounds the factor, hence 126.
_MOST = 126.0
_ZERO = 128  # what stands for zero where the processor wants unsigned activations
_TINY = 1e-30  # a token of zeros
# How wide a layer must be for integer products to be the faster ones: 1 / (1/in + 1/out), as finding scales grows with
# in + out and the product with in · out. Measured on layers of 192 to 3,072, 3,152 tokens, two cores: against bfloat16
# with AMX equal at 384, half as fast at 144 (Xeon, 2026-11-28); dequantizing adds five percent. Where bfloat16 is
# multiplied by AVX512 it takes twice as long (29 against 14 ms for 3152 × 768 × 2304, Zen 4), and float32 four times,
# which the other two are scaled from.
_WIDTHS = {"amx": 400, "bf16": 200, "fp32": 60}


class Rows(NamedTuple):
    """An activation quantized by row: `codes` uint8 or int8 [M, K], `scales` [M, 1]; x ≈ (codes - zero) · scales."""

    codes: Tensor
    scales: Tensor

    def values(self) -> Tensor:
        """codes - zero, in the type of the scales [M, K]."""
        values = self.codes.to(self.scales.dtype)
        return values.sub_(_ZERO) if self.codes.dtype == torch.uint8 else values


def quantize_rows(x: Tensor) -> Rows:
    """x float [M, K] → int8 codes, each row by its own largest value."""
    if x.dtype == torch.float16:
        x = x.float()  # its range does not hold the factors of small rows
    if x.dtype == torch.bfloat16:
        # The largest magnitude is that of the largest bits without the sign; torch 2.15 finds a bfloat16 maximum on a
        # CPU three times more slowly.
        most = x.contiguous().view(torch.int16).bitwise_and(0x7FFF).amax(-1, keepdim=True).view(torch.bfloat16)
    else:
        most = torch.maximum(x.amax(-1, keepdim=True), x.amin(-1, keepdim=True).neg_())
    factor = (_MOST / most.float().clamp_(min=_TINY)).to(x.dtype)
    return Rows((x * factor).round_().to(torch.int8), factor.float().reciprocal_().to(x.dtype))


class IntegerWeight:
    """W ≈ `codes` · `scales`, codes int8 [N, K], scales [N, 1] of any float type; packed for the CPU where it is used.

    Packed weights are copies: one for x Wᵀ, another, once a gradient asks for it, for g W.
    """

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        self.codes, self._scales = codes, scales.reshape(-1, 1)
        self._packed: dict[bool, tuple[Tensor, Tensor, Tensor]] = {}

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Rows]:
        """x Wᵀ + b for x [M, K], and x as it was quantized."""
        rows = quantize_rows(x)
        return self._product(rows, x.dtype, bias, back=False)

    def backward(self, grad: Tensor) -> Tensor:
        """g W for g [M, N]: the weights' own codes again, their scales taken into the gradient."""
        out, _ = self._product(quantize_rows(grad * self._scales.to(grad.dtype).T), grad.dtype, None, back=True)
        return out

    def _product(self, rows: Rows, dtype: torch.dtype, bias: Tensor | None, *, back: bool) -> tuple[Tensor, Rows]:
        if _on_cpu(rows.codes):
            rows = Rows(rows.codes.view(torch.uint8).bitwise_xor_(_ZERO), rows.scales)
            weight, scales, zeros = self._pack(back)
            out = torch.ops.onednn.qlinear_pointwise(
                rows.codes, 1.0, _ZERO, weight, scales, zeros, None, 1.0, 0, dtype, "none", [], ""
            )
            scales = rows.scales
        else:
            codes = self.codes if back else self.codes.T
            out = torch.ops.aten._int_mm(rows.codes, codes)
            scales = rows.scales if back else rows.scales.float() * self._scales.float().T
            out = (out * scales).to(dtype)
            return (out if bias is None else out.add_(bias)), rows
        return (out.mul_(scales) if bias is None else torch.addcmul(bias, out, scales, out=out)), rows

    def _pack(self, back: bool) -> tuple[Tensor, Tensor, Tensor]:
        if back not in self._packed:
            codes = self.codes.T.contiguous() if back else self.codes
            scales = torch.ones(len(codes)) if back else self._scales.float().flatten()
            packed = torch.ops.onednn.qlinear_prepack(codes, None)
            self._packed[back] = packed, scales, torch.zeros(len(codes), dtype=torch.int64)
        return self._packed[back]


def _on_cpu(codes: Tensor) -> bool:
    return codes.device.type in ("cpu", "meta")  # without weights: counted as on a CPU


@cache
def cpu_instructions() -> str | None:
    """What the CPU multiplies 8-bit integers with: amx, avx512_vnni, avx_vnni; None where nothing fast is known.

    Processors of Arm are left out: oneDNN's path there was not tried.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return None
    have = torch.cpu.get_capabilities()
    return next((name for name in ("amx_int8", "avx512_vnni", "avx_vnni") if have.get(name)), None)


def takes(inputs: int, outputs: int, device: str) -> bool:
    """Whether this machine has an integer product for a layer of these widths, used once."""
    if device == "cpu":
        return cpu_instructions() is not None
    # cuBLAS wants multiples of 8, and more than 16 rows.
    return device == "cuda" and inputs % 8 == 0 and outputs % 8 == 0


def pays(inputs: int, outputs: int, device: str) -> bool:
    """Whether an integer product is faster here than one of dequantized weights, for many tokens."""
    if device != "cpu" or not takes(inputs, outputs, device):
        return False  # a GPU: not measured
    have = torch.cpu.get_capabilities()
    kind = "amx" if have.get("amx_bf16") else "bf16" if have.get("avx512_bf16") else "fp32"
    return 1 / (1 / inputs + 1 / outputs) >= _WIDTHS[kind]


def chosen(compute: Compute, inputs: int, outputs: int, device: str) -> Compute:
    """What `compute` comes to for a layer: integer, dequantized or llm_int8.

    auto: integers where that is the faster way here. Insisted on, they are used wherever the machine has a product for
    such a layer.
    """
    if compute == "llm_int8":
        return compute
    asked = takes if compute == "integer" else pays
    return "integer" if compute != "dequantized" and asked(inputs, outputs, device) else "dequantized"


def name_of(device: str) -> str:
    """In words, for the plan: `avx512_vnni`, `cuda`, `no 8-bit instructions`."""
    return (cpu_instructions() or "no 8-bit instructions") if device == "cpu" else device
