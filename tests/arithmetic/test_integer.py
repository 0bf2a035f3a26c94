"""Integer products: right values beside float32, rows that do not depend on each other, what the machine has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_finetune.arithmetic import integer
from hf_finetune.arithmetic.integer import IntegerWeight, cpu_instructions, pays, quantize_rows, takes

needs_instructions = pytest.mark.skipif(cpu_instructions() is None, reason="the CPU has no 8-bit products")


def weight(outputs: int, inputs: int, seed: int = 0) -> tuple[IntegerWeight, Tensor]:
    """A weight in int8 with a scale a row, and the float32 values that it stands for."""
    codes = torch.randint(-127, 128, (outputs, inputs), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    scales = torch.rand(outputs, generator=torch.Generator().manual_seed(seed + 1)) * 0.01 + 1e-4
    return IntegerWeight(codes, scales), codes.float() * scales[:, None]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_quantized_each_by_its_own_scale(dtype: torch.dtype) -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-4], [1.0], [50.0], [0], [3]])
    rows = quantize_rows(x.to(dtype))
    assert rows.codes.dtype == torch.int8
    assert int(rows.codes.abs().max()) <= 127
    assert rows.codes[3].abs().max() == 0
    values = rows.values().float() * rows.scales.float()
    steps = x.abs().amax(1, keepdim=True) / 126
    assert ((values - x.to(dtype).float()).abs() <= 0.52 * steps + 0.004 * x.abs()).all()
    alone = quantize_rows(x[2:3].to(dtype))
    torch.testing.assert_close(alone.codes, rows.codes[2:3], rtol=0, atol=0)


@needs_instructions
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 32), (30, 7), (1, 1), (768, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_forward_and_back_are_those_of_the_values(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    own, values = weight(outputs, inputs)
    generator = torch.Generator().manual_seed(3)
    x, grad = torch.randn(17, inputs, generator=generator), torch.randn(17, outputs, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    out, rows = own.forward(x.to(dtype), bias.to(dtype))
    assert out.dtype == dtype
    assert relative(out, x @ values.T + bias) < 0.02
    kept = rows.values().float() * rows.scales.float()
    assert relative(kept, x) < 0.01
    assert relative(own.backward(grad.to(dtype)), grad @ values) < 0.02
    assert relative(own.forward(x.to(dtype), None)[0], x @ values.T) < 0.02


@needs_instructions
def test_a_row_does_not_depend_on_the_others() -> None:
    own, _ = weight(32, 64)
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    x[4] *= 1000
    alone = torch.cat([own.forward(row[None], None)[0] for row in x])
    torch.testing.assert_close(own.forward(x, None)[0], alone, rtol=1e-5, atol=0)


def test_the_form_for_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch._int_mm` has a CPU kernel, which stands in for cuBLAS here."""
    own, values = weight(32, 64)
    monkeypatch.setattr(integer, "_on_cpu", lambda _: False)
    generator = torch.Generator().manual_seed(3)
    x, grad, bias = torch.randn(40, 64, generator=generator), torch.randn(40, 32, generator=generator), torch.ones(32)
    out, rows = own.forward(x, bias)
    assert rows.codes.dtype == torch.int8
    assert relative(out, x @ values.T + bias) < 0.02
    assert relative(own.backward(grad), grad @ values) < 0.02


def test_a_machine_without_instructions_has_no_integer_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer, "cpu_instructions", lambda: None)
    assert not takes(768, 768, "cpu")
    assert not pays(768, 3072, "cpu")
    assert integer.name_of("cpu") == "no 8-bit instructions"
    assert takes(768, 768, "cuda")
    assert not takes(770, 768, "cuda")
    assert not takes(768, 768, "mps")


@pytest.mark.parametrize(
    ("have", "narrow_pays"),
    [
        ({"amx_int8": True, "amx_bf16": True, "avx512_bf16": True}, False),
        ({"avx512_vnni": True, "avx512_bf16": True}, False),
        ({"avx512_vnni": True}, True),
    ],
)
def test_integers_pay_for_wide_layers_and_sooner_where_floats_are_slow(
    have: dict[str, bool], narrow_pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: have)
    monkeypatch.setattr(integer, "cpu_instructions", lambda: next(iter(have)))
    assert pays(768, 3072, "cpu")
    assert pays(192, 576, "cpu") == narrow_pays
    assert not pays(32, 32, "cpu")
    assert not pays(768, 3072, "cuda")
