"""The backbone that is taken where a person names none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hf_finetune.plan.backbone import BACKBONES, default_backbone
from hf_finetune.types import Machine
from tests.plan.test_plan import CPU, GPU


@pytest.mark.parametrize(
    ("machine", "images", "budget_s", "size"),
    [
        (replace(CPU, cores=2, bf16=True), 56, None, "small"),
        (replace(CPU, cores=2, bf16=True), 1_768, None, "tiny"),
        (replace(CPU, cores=2, bf16=True), 56, 1.0, "tiny"),
        (replace(CPU, cores=2, bf16=True), 1_000_000, None, "tiny"),
        (replace(CPU, cores=64, bf16=True), 1_768, None, "base"),
        (GPU, 10_000, None, "large"),
        (GPU, 1_000_000, None, "tiny"),
        (replace(GPU, device_memory_bytes=6_000_000_000), 10_000, None, "base"),
        (replace(GPU, device_memory_bytes=500_000_000), 10_000, None, "tiny"),
    ],
)
def test_machine_images_and_time_decide(machine: Machine, images: int, budget_s: float | None, size: str) -> None:
    machine = machine if machine.device_memory_bytes < 7e9 else replace(machine, device_memory_bytes=40_000_000_000)
    decision = default_backbone(machine, images, budget_s)
    assert decision.value.size == size
    assert f"{images:,} images in " in decision.reason and "at a stated " in decision.reason


def test_they_stand_by_size() -> None:
    for field in ("parameters", "flops", "least_bytes"):
        values = [getattr(each, field) for each in BACKBONES]
        assert values == sorted(values)
