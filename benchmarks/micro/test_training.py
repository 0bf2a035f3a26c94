"""A training step at full depth and on kept states, and what a block keeps for backward, beside PEFT's own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, extract_features
from hf_finetune.ladder.probe.last_block import short_last_block
from hf_finetune.ladder.trained.cached import Cut, HiddenRows, on_kept_states
from hf_finetune.types import PixelRows, Split
from micro.models import BATCH, Ours, kept_by_a_block, plain_step, stock_peft, write_checkpoint


@pytest.fixture(scope="module")
def stock(ours: Ours, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return stock_peft(write_checkpoint(tmp_path_factory.mktemp("stock") / "vit", 4), ours.context)


@pytest.fixture(scope="module")
def climbing(ours: Ours) -> Iterator[Ours]:
    """The model in the forms in which the ladder trains it."""
    with ExitStack() as forms:
        rows = ours.images.rows["validation"]
        assert forms.enter_context(short_last_block(ours.model, ours.backbone, ours.context, rows, None))
        assert not forms.enter_context(training_forms(ours.model, ours.context.plan)), "autocast should not be needed"
        yield ours


def cached_step(ours: Ours, cache: Path) -> tuple[Callable[[], None], Cut]:
    """Reading a batch of kept states, forward and backward through the suffix, and the update; all patches kept."""
    context, probe_rows = ours.context, ours.images.probe_rows
    assert probe_rows is not None
    splits: dict[Split, PixelRows] = {"train": probe_rows, "validation": ours.images.rows["validation"]}
    passed = extract_features(ours.model, context, splits, FeaturePlace(cache, "micro"), None, announce=lambda *_: None)
    assert passed.entry is not None
    facts = context.facts
    cut = Cut(ours.backbone, facts.blocks, passed.entry, (facts.preprocess.height, facts.preprocess.width))
    rows = HiddenRows(passed.all["train"], probe_rows.labels)
    objective, batches = on_kept_states(context, rows, None)
    order = cycle(np.array_split(np.arange(len(rows) // BATCH * BATCH), len(rows) // BATCH))
    optimizer = torch.optim.AdamW([weight for weight in ours.model.parameters() if weight.requires_grad], lr=1e-4)

    def step() -> None:
        batch = batches.__getitems__(next(order).tolist())
        prepared = objective.prepare(batch)
        logits = ours.model(pixel_values=prepared.pixel_values).logits
        objective.loss(logits, prepared, objective.row_weights(batch).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, cut


def test_lora_step(micro: Any, climbing: Ours, stock: nn.Module) -> None:
    step, reference = plain_step(climbing.model, autocast=False), plain_step(stock, autocast=True)
    micro.compare("lora_step", step, reference, images=BATCH, products="bf16", seconds=6)


def test_cached_step(micro: Any, climbing: Ours, stock: nn.Module, tmp_path: Path) -> None:
    """Half of the blocks on kept states, beside PEFT's step through all of them."""
    reference = plain_step(stock, autocast=True)
    step, cut = cached_step(climbing, tmp_path)
    climbing.model.train()
    with cut.suffix():
        micro.compare("cached_step", step, reference, images=BATCH, products="bf16", seconds=4)


@pytest.mark.parametrize("form", ["as_trained", "made_again", "stock_attention"])
def test_saved_bytes_of_a_block(micro: Any, photos: Path, tmp_path: Path, form: str) -> None:
    """As the product trains on a CPU, where what activations and plain attention give is kept for speed; made again, as
    where memory counts; and that with the fused attention of stock models, which leaves what LoRA's layers keep."""
    found = kept_by_a_block(
        photos, tmp_path, "none", lean=form != "as_trained", fused_attention=form == "stock_attention"
    )
    micro.weigh({"as_trained": "saved_bytes"}.get(form, f"saved_bytes_{form}"), *found)
