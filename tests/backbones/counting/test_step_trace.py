"""What a step holds, counted without weights: against a hand count, the same step on a CPU, and recomputed blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.adapters import Full, Lora
from hf_finetune.adapters.low_memory import low_memory_lora
from hf_finetune.backbones.build import read_config
from hf_finetune.backbones.checkpoint import find
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.counting.meta_autocast import Autocast
from hf_finetune.backbones.counting.quantized_empty import quantize_empty
from hf_finetune.backbones.counting.step_bytes import recomputing
from hf_finetune.backbones.counting.step_trace import trace_step
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_empty
from hf_finetune.backbones.recompute import recomputed
from tests.backbones.small import write_timm, write_vit

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3 * 4 * 4, 10), nn.Linear(10, 5)

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.second(torch.relu(self.first(pixel_values.flatten(1))))})()


def test_a_known_network_is_counted_by_hand() -> None:
    step = trace_step(Two().to("meta"), (4, 4))
    assert step is not None
    # The pixels, relu's output and the logits live at the end of the forward pass; then come gradients.
    assert step.kept == (0, 4 * (48 + 10 + 5))
    assert step.gradients == 4 * (48 * 10 + 10 + 10 * 5 + 5)
    assert step.peak(100, accumulates=True) >= 100 * step.kept[1] + step.gradients
    assert [step.peak(size, accumulates=False) for size in (1, 2, 64)] == sorted(
        step.peak(size, accumulates=False) for size in (1, 2, 64)
    )


def test_what_onednns_convolutions_copy_is_counted_while_they_run() -> None:
    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return type("Output", (), {"logits": self.layer(pixel_values).mean((2, 3))})()

    pixels, maps = 4 * 3 * 16 * 16, 4 * 8 * 16 * 16
    for backward in (False, True):
        plain, copied = (
            trace_step(Convolution().to("meta"), (16, 16), backward=backward, by_onednn=on) for on in (False, True)
        )
        assert plain is not None and copied is not None
        assert copied.kept == plain.kept  # the copies are gone when the convolution ends
        # Forward: pixels, maps, and a copy of the larger. Backward: pixels, the maps' gradients, and copies of both.
        expected = 2 * (pixels + maps) if backward else pixels + 2 * maps
        at_rest, at_work = (each.peak(100, accumulates=False) for each in (plain, copied))
        assert at_rest < 0.9 * at_work
        assert at_work == pytest.approx(100 * expected, rel=0.02)


@pytest.mark.parametrize("library", ["vit", "test_vit", "test_resnet"])
def test_some_recomputed_blocks_lie_between_none_and_all(tmp_path: Path, library: str) -> None:
    folder = write_vit(tmp_path) if library == "vit" else write_timm(tmp_path, library)
    model_of = Model(name=str(folder))
    facts = read_facts(model_of)
    empty = load_empty(read_config(find(model_of)), 2, facts.head, torch.bfloat16, plain_attention=True)
    model = Lora(rank=2).apply(empty, facts).train()
    base: Any = model.get_base_model()
    blocks, size = [base.get_submodule(name) for name in facts.blocks], (64, 64)
    size = (facts.preprocess.height, facts.preprocess.width)
    with low_memory_lora(model):
        counted = []
        for count in (0, 1, len(blocks)):
            with recomputed(model, facts.blocks, count):
                counted.append(trace_step(model, size, blocks=blocks, autocast=Autocast(torch.bfloat16, "cpu")))
    none, one, every = counted
    assert none is not None and one is not None and every is not None
    assert none.kept_by(8) > one.kept_by(8) > every.kept_by(8)
    # The arithmetic on two counts against a count of its own.
    assert recomputing(none, every, 1).kept_by(8) == pytest.approx(one.kept_by(8), rel=0.15)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantized_layers_are_counted_without_weights(tmp_path: Path, kind: str) -> None:
    model_of = Model(name=str(write_vit(tmp_path)))
    facts = read_facts(model_of)
    empty = load_empty(read_config(find(model_of)), 2, facts.head, torch.bfloat16, plain_attention=True)
    quantize_empty(empty, kind, list(facts.linears), "cpu", torch.bfloat16)
    model = Lora(rank=2).apply(empty, facts).train()
    step = trace_step(model, (32, 32), autocast=Autocast(torch.bfloat16, "cpu"))
    assert step is not None and step.kept[1] > 0


def test_autocast_is_counted_as_torch_casts(tmp_path: Path) -> None:
    """The same step of a whole model, on the meta device and with real tensors under torch's own autocast."""
    model_of = Model(name=str(write_vit(tmp_path)))
    facts = read_facts(model_of)
    found = []
    for device in ("meta", "cpu"):
        empty = load_empty(read_config(find(model_of)), 2, facts.head, torch.float32, plain_attention=True)
        model = Full().apply(empty, facts).train()
        if device == "cpu":
            model = model.to_empty(device="cpu")
            kept = _kept_under_torchs_autocast(model, 29)
        else:
            step = trace_step(model, (32, 32), autocast=Autocast(torch.bfloat16, "cpu"))
            assert step is not None
            kept = step.kept_by(29)
        found.append(kept)
    assert found[0] == pytest.approx(found[1], rel=0.03)


def _kept_under_torchs_autocast(model: nn.Module, batch: int) -> int:
    own = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each), torch.autocast("cpu", torch.bfloat16):
        pixels = torch.zeros(batch, 3, 32, 32)
        logits = model(pixel_values=pixels).logits
    return sum(each.untyped_storage().nbytes() for each in kept.values()) + logits.nbytes + pixels.nbytes
