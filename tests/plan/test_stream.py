"""Where frozen weights stay: decided by the room there is, refused where nothing could be brought in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hf_finetune.errors import MachineError
from hf_finetune.recipe.recipe import load_recipe
from tests.plan.test_plan import CPU, FACTS, GPU, plan_of

LARGE = replace(FACTS, parameters=1_100_000_000)


def test_auto_streams_only_what_would_fill_half_of_the_room() -> None:
    for machine, stream in ((replace(CPU, device_memory_bytes=4 * 10**9, bf16=True), "disk"), (GPU, "off")):
        assert plan_of({}, machine, LARGE).stream.value == stream
    small = plan_of({}, replace(GPU, device_memory_bytes=4 * 10**9), LARGE)
    assert small.stream.value == "host"
    assert "frozen weights" in small.stream.reason and "of cuda memory usable" in small.stream.reason
    assert small.memory_bytes["frozen weights"] == 2 * 2 * LARGE.parameters // 12
    assert plan_of({}, GPU).stream.value == "off"


def test_auto_does_not_stream_what_cannot_be() -> None:
    tight = replace(GPU, device_memory_bytes=3 * 10**9)
    assert plan_of({"quantization": {"kind": "nf4"}}, tight, replace(LARGE, linears={})).stream.value == "off"
    assert plan_of({"adapter": {"kind": "full"}}, replace(CPU, device_memory_bytes=10**11), LARGE).stream.value == "off"


def test_a_gigabyte_above_the_process_is_enough_for_a_vit_g_on_a_cpu() -> None:
    machine = replace(CPU, device_memory_bytes=25 * 10**8, bf16=True)
    with pytest.raises(MachineError, match="Even one image at a time needs"):
        plan_of({"model": {"stream": "off"}}, machine, LARGE)
    plan = plan_of({}, machine, LARGE)
    assert plan.stream.value == "disk" and "frozen weights" not in plan.memory_bytes


@pytest.mark.parametrize(
    ("recipe", "machine", "facts", "message"),
    [
        ({"adapter": {"kind": "full"}}, GPU, FACTS, "frozen weights are expected, and adapter.kind full trains all"),
        (
            {"quantization": {"kind": "int8"}},
            GPU,
            FACTS,
            "in floating point are expected, and quantization.kind is int8",
        ),
        ({}, GPU, replace(FACTS, blocks=()), "repeated blocks are expected, which could be brought in one by one, and"),
        ({}, replace(GPU, device="mps"), FACTS, "a CPU or a CUDA device is expected, found mps"),
        ({}, replace(GPU, world_size=2), FACTS, "one process is expected on CUDA devices, found 2"),
        ({}, CPU, FACTS, "a device with memory of its own is expected, and the CPU's is the host's"),
    ],
)
def test_what_cannot_be_streamed_is_refused(recipe: dict[str, Any], machine: Any, facts: Any, message: str) -> None:
    with pytest.raises(MachineError) as raised:
        plan_of({**recipe, "model": {"stream": "host"}}, machine, facts)
    assert raised.value.message.startswith("model.stream is host: ") and message in raised.value.message
    assert "off" in raised.value.hint


def test_a_bare_off_is_no_boolean() -> None:
    assert load_recipe({}, ["model.stream=off"]).model.stream == "off"
    assert load_recipe({}, ["model.stream=disk"]).model.stream == "disk"
