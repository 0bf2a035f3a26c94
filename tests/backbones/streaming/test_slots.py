"""Two slots give the gradients of the ordinary model, though each is used by several blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.adapters import HeadOnly, Lora
from hf_finetune.backbones.streaming.slots import BlockSlots
from hf_finetune.backbones.surgery.cut import suffix_only
from tests.backbones.streaming.deep import build, form, same, steps, write


def slots_of(adapted: nn.Module, blocks: tuple[str, ...]) -> BlockSlots:
    base: Any = adapted.get_base_model()
    return BlockSlots(adapted, [base.get_submodule(name) for name in blocks], "cpu", pinned=False)


@pytest.mark.parametrize("kind", ["transformers", "timm"])
@pytest.mark.parametrize("way", ["plain", "low memory", "recomputed"])
def test_gradients_out_of_two_slots_are_those_of_the_ordinary_model(tmp_path: Path, kind: str, way: str) -> None:
    model = write(kind, tmp_path / "base")
    ordinary, facts = build(model, torch.float32, Lora(rank=2))
    streamed, _ = build(model, torch.float32, Lora(rank=2))
    slots = slots_of(streamed, facts.blocks)
    with form(way, ordinary), form(way, streamed):
        expected, found = steps(ordinary), steps(streamed)

    assert same(expected, found)
    block = sum(weight.nbytes for weight in ordinary.get_base_model().get_submodule(facts.blocks[0]).parameters())
    assert sum(len(slot) for slot in slots.slots) <= 2 * block + 20 * 256
    names = [name for name, _ in streamed.named_parameters()]
    assert not any(block in name and "lora" not in name for name in names for block in facts.blocks)


def test_a_block_that_is_recomputed_beside_blocks_that_are_not(tmp_path: Path) -> None:
    model = write("transformers", tmp_path / "base")
    found = []
    for stream in (False, True):
        adapted, facts = build(model, torch.float32, Lora(rank=2))
        if stream:
            slots_of(adapted, facts.blocks)
        with form("recomputed", adapted):
            base: Any = adapted.get_base_model()
            for name in facts.blocks[1::2]:
                base.get_submodule(name).gradient_checkpointing = False
            found.append(steps(adapted))
    assert same(*found)


def test_blocks_before_a_cut_are_not_brought_in(tmp_path: Path) -> None:
    adapted, facts = build(write("timm", tmp_path / "base"), torch.float32, HeadOnly())
    slots = slots_of(adapted, facts.blocks)
    brought: list[int] = []
    bring = slots._bring
    slots._bring = lambda number: brought.append(number) or bring(number)  # type: ignore[method-assign]
    base: Any = adapted.get_base_model()
    with torch.no_grad(), suffix_only(base, facts.blocks, facts.blocks[3], (32, 32)):
        adapted(pixel_values=torch.zeros(2, 5, 64))
    assert set(brought) == {3, 4}


def test_a_weight_that_two_blocks_share_stays_on_the_device(tmp_path: Path) -> None:
    model = write("timm", tmp_path / "base")
    found = []
    for stream in (False, True):
        adapted, facts = build(model, torch.float32, Lora(rank=2))
        base: Any = adapted.get_base_model()
        first, last = (base.get_submodule(facts.blocks[number]) for number in (0, 3))
        last.norm1.weight = first.norm1.weight
        if stream:
            slots_of(adapted, facts.blocks)
            assert isinstance(first.norm1.weight, nn.Parameter) and not isinstance(first.norm1.bias, nn.Parameter)
        found.append(steps(adapted))
    assert same(*found)


def test_a_forward_pass_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    adapted, facts = build(write("timm", tmp_path / "base"), torch.float32, Lora(rank=2))
    slots_of(adapted, facts.blocks)
    before = steps(adapted, 1)
    base: Any = adapted.get_base_model()
    handle = base.get_submodule(facts.blocks[2]).mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapted(pixel_values=torch.zeros(1, 3, 32, 32))
    handle.remove()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        pass  # nothing of the failed pass is on the stack above it
    assert len(steps(adapted, 1)) == len(before)
