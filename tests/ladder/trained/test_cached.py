"""Cutting backbones: for every architecture, prefix and suffix make the whole, or the cut is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.surgery.cut import Watch, suffix_only
from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.labels import Labels
from hf_finetune.ladder.trained.patches import token_count
from tests.matrix.architectures import write_timm, write_transformers

pytestmark = pytest.mark.e2e

LABELS = Labels(("n/a", "1", "True"))
# Cut at the middle of their blocks without loss; what is not here is refused when it is tried, and trained whole.
CUT = {
    "transformers": {
        "beit", "clip", "convnext", "convnextv2", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "ijepa",
        "siglip", "vit", "vit_msn",
    },
    "timm": {"vit_tiny_patch16_224", "deit_tiny_patch16_224", "convnext_atto", "mixer_s32_224"},
}  # fmt: skip


def build(library: str, name: str, folder: Path):
    (write_transformers if library == "transformers" else write_timm)(name, folder, 3)
    model = Model(name=str(folder))
    facts = read_facts(model, num_labels=3)
    loaded = load_backbone(model, LABELS, dtype=torch.float32, seed=0)
    torch.manual_seed(2)
    for weight in loaded.parameters():  # zero-initialised scales would make every cut look right
        torch.nn.init.normal_(weight, std=0.2)
    return loaded, facts


def test_gradients_of_the_suffix_are_those_of_the_whole(tmp_path: Path) -> None:
    model, facts = build("transformers", "vit", tmp_path / "base")
    size = (facts.preprocess.height, facts.preprocess.width)
    entry, pixels = facts.blocks[1], torch.randn(3, 3, *size)
    watch = Watch([], model.get_submodule(entry))
    with watch:
        model(pixel_values=pixels).logits.square().sum().backward()
    block = model.get_submodule(entry)
    wanted = {name: weight.grad.clone() for name, weight in block.named_parameters() if weight.grad is not None}
    assert len(wanted) > 5
    model.zero_grad()
    assert watch.hidden is not None
    with suffix_only(model, facts.blocks, entry, size):
        model(pixel_values=watch.hidden).logits.square().sum().backward()
    for name, grad in wanted.items():
        found = block.get_parameter(name).grad
        assert found is not None
        torch.testing.assert_close(found, grad, rtol=1e-4, atol=1e-5, msg=name)
    assert model.get_submodule(facts.blocks[0]).get_parameter(name).grad is None


# (library, name, extra tokens) of the families whose blocks do not know positions.
DROPPABLE = {
    ("transformers", "vit"): 1,
    ("transformers", "deit"): 2,
    ("transformers", "dinov2"): 1,
    ("transformers", "dinov2_with_registers"): 5,
    ("transformers", "vit_msn"): 1,
    ("transformers", "ijepa"): 0,
}


def test_autocast_that_a_cut_backbone_got_is_given_to_the_whole_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # one a process: other tests may have set another
    model, facts = build("transformers", "vit", tmp_path / "base")
    size = (facts.preprocess.height, facts.preprocess.width)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    seen: list[torch.dtype] = []
    linear = next(each for each in model.get_submodule(facts.blocks[-1]).modules() if isinstance(each, torch.nn.Linear))
    linear.register_forward_hook(lambda _module, _args, out: seen.append(out.dtype))
    with torch.no_grad():
        with suffix_only(model, facts.blocks, facts.blocks[-1], size):
            accelerator.prepare_model(model)
            model(pixel_values=torch.randn(2, 5, model.config.hidden_size))
        accelerator.prepare_model(model)
        model(pixel_values=torch.randn(2, 3, *size))
        with suffix_only(model, facts.blocks, facts.blocks[-1], size):
            pass
        model(pixel_values=torch.randn(2, 3, *size))
    assert seen == [torch.bfloat16] * 3


def test_kept_patches_are_those_with_the_largest_numbers() -> None:
    dropper = TokenDropper(0.5, extra=1, patches=4)
    hidden = torch.arange(10.0).view(2, 5, 1)
    assert dropper(hidden) is hidden
    dropper.order = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4]])
    assert dropper(hidden).flatten(1).tolist() == [[0, 1, 3], [5, 8, 9]]


def test_each_batch_size_has_one_place_for_its_numbers() -> None:
    dropper = TokenDropper(0.5, extra=1, patches=4)
    places = []
    for batch in (2, 3, 2):
        dropper.tell(numbers := torch.rand(batch, 4))
        assert dropper.order is not None and torch.equal(dropper.order, numbers)
        places.append(dropper.order.data_ptr())
    assert places[0] == places[2] != places[1]


def test_patches_are_left_out_in_training_only(tmp_path: Path) -> None:
    model, facts = build("transformers", "vit", tmp_path / "base")
    pixels = torch.randn(2, 3, facts.preprocess.height, facts.preprocess.width)
    seen: list[int] = []
    last = model.get_submodule(facts.blocks[-1])
    handle = last.register_forward_hook(lambda _module, _args, output: seen.append(output.shape[1]))
    dropper = TokenDropper(0.25, 1, 16)
    dropper.order = torch.rand(2, 16)
    with torch.no_grad(), dropper.before(model.get_submodule(facts.blocks[0])):
        model.train()(pixel_values=pixels)
        model.eval()(pixel_values=pixels)
    model.train()(pixel_values=pixels)
    handle.remove()
    assert seen == [5, 17, 17]


def test_counting_tokens_leaves_trained_norms_as_they_are(tmp_path: Path) -> None:
    model, facts = build("transformers", "resnet", tmp_path / "base")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    size = (facts.preprocess.height, facts.preprocess.width)
    assert token_count(model, facts.blocks[0], size) is None
    assert any("running_mean" in name for name in before)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0, msg=name)
