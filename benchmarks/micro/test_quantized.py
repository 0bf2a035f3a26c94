"""A quantized base, forward and in a LoRA step, and what a block keeps for backward, beside stock layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.adapters.low_memory import training_forms
from micro.models import BATCH, Ours, kept_by_a_block, plain_step, prepare_ours, stock_peft, write_checkpoint

KINDS = ("int8", "nf4")


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Ours, nn.Module]:
    """The kind, ours, and PEFT's model of the same base."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    checkpoint = write_checkpoint(folder / "vit", 4)
    ours = prepare_ours(checkpoint, photos, folder, kind)
    return kind, ours, stock_peft(checkpoint, ours.context)


def test_quantized_step(micro: Any, pair: tuple[str, Ours, nn.Module]) -> None:
    kind, ours, stock = pair
    plain, reference = plain_step(ours.model, autocast=False), plain_step(stock, autocast=True)

    def step() -> None:
        with training_forms(ours.model, ours.context.plan):  # one of them would act on the other model, too
            plain()

    micro.compare(f"{kind}_step", step, reference, images=BATCH, products="bf16", seconds=4)


def test_quantized_forward(micro: Any, pair: tuple[str, Ours, nn.Module]) -> None:
    kind, ours, stock = pair
    pixels = torch.randn(BATCH, 3, 224, 224)
    ours.model.eval()
    stock.eval()

    def forward() -> None:
        with torch.no_grad():
            ours.model(pixel_values=pixels)

    def reference() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            stock(pixel_values=pixels)

    micro.compare(f"{kind}_forward", forward, reference, images=BATCH, products="bf16", seconds=4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_bytes_of_a_quantized_block(micro: Any, photos: Path, tmp_path: Path, kind: str) -> None:
    micro.weigh(f"{kind}_saved_bytes", *kept_by_a_block(photos, tmp_path, kind))
