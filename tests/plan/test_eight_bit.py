"""What 8 and 4 bits would save and cost: named by `plan`, with the time of the layers measured on this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hf_finetune.plan.eight_bit import Saving
from hf_finetune.plan.eight_bit_speed import times_as_long
from tests.plan.test_plan import FACTS


def test_a_saving_says_bytes_and_measured_time() -> None:
    assert Saving("int8", 17 * 10**8, 2 * 10**8).text == "quantization.kind=int8 would take 1.7 GB, 200 MB less"
    again = Saving("int8", 10**9, 12 * 10**7, 10**8).text
    assert again.endswith("1 GB, 120 MB less (100 MB by making activations again, as any budget.memory does)")
    more = Saving("nf4", 10**9, -(10**8), times=1.234).text
    assert more == (
        "quantization.kind=nf4 would take 1 GB, 100 MB more; its layers take 1.23 times as long (measured here)"
    )


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_layers_are_timed_and_a_network_without_any_is_not(kind: str, precision: str) -> None:
    found = times_as_long(kind, replace(FACTS, linears={"a": (64, 128), "b": (64, 128), "c": (128, 64)}), precision)
    assert found is not None and found > 0
    assert times_as_long(kind, replace(FACTS, linears={}), precision) is None
