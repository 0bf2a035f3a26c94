"""What is read of a backbone without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hf_finetune.backbones.anatomy import find_blocks
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.targets import find_targets
from tests.backbones.small import edit_config, write_timm, write_vit


def test_facts_of_a_vit_name_its_parts(tmp_path: Path) -> None:
    facts = read_facts(Model(name=str(write_vit(tmp_path))), num_labels=4)

    assert facts.library == "transformers"
    assert facts.architecture == "ViTForImageClassification"
    assert facts.head == ("classifier",)
    assert facts.head_in_features == 64
    assert facts.head_parameters_per_label == 65
    assert facts.blocks == ("vit.layers.0", "vit.layers.1")
    assert facts.supports_checkpointing
    assert (facts.preprocess.height, facts.preprocess.width) == (32, 32)
    assert {role: len(names) for role, names in facts.targets.items()} == {"attention": 8, "mlp": 4}
    assert facts.excluded == {
        "vit.embeddings.patch_embeddings.projection": (
            "reads the pixels: its filters fit any photo, and adapting it costs a backward pass at full resolution"
        )
    }
    assert facts.module_shapes["vit.layers.0.mlp.fc1"] == (64, 128)
    assert facts.commit is None


def test_parameters_are_those_of_the_model_with_the_asked_number_of_labels(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    folder = write_vit(tmp_path)
    facts = read_facts(Model(name=str(folder)), num_labels=3)
    loaded = AutoModelForImageClassification.from_pretrained(folder)

    assert facts.parameters == sum(weight.numel() for weight in loaded.parameters())
    assert sum(facts.parameters_by_type.values()) == facts.parameters
    linear = [module for module in loaded.modules() if isinstance(module, nn.Linear)]
    widths = [wide * out for wide, out in facts.linears.values()]
    assert sum(widths) == sum(module.weight.numel() for module in linear) - 3 * 64
    assert (facts.fixed_linears, facts.mapped_linears) == ({}, frozenset())


def test_facts_of_a_timm_cnn_count_convolutions_as_lora_does(tmp_path: Path) -> None:
    facts = read_facts(Model(name=str(write_timm(tmp_path, "test_resnet"))))

    assert facts.library == "timm"
    assert facts.architecture == "test_resnet"
    assert facts.head == ("timm_model.fc",)
    assert facts.linears == {}
    assert set(facts.targets) == {"conv"}
    kernel = next(name for name in facts.targets["conv"] if name.endswith("layer1.0.conv2"))
    assert facts.module_shapes[kernel][0] % 9 == 0
    assert len(facts.blocks) == 4


def test_timm_and_transformers_have_the_same_blocks(tmp_path: Path) -> None:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
    folders = write_timm(tmp_path / "timm", "vit_tiny_patch16_224", **arguments), write_vit(tmp_path / "vit")

    assert [len(read_facts(Model(name=str(folder))).blocks) for folder in folders] == [2, 2]


class Oddities(nn.Module):
    """One of each thing that must not be adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.plain = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.dilated = nn.Conv2d(8, 8, 3, dilation=2)
        self.reflected = nn.Conv2d(8, 8, 3, padding_mode="reflect", padding=1)
        self.asked = nn.Conv2d(8, 8, 1)
        self.line = nn.Conv1d(8, 8, 1)
        self.borrowed = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.head = nn.Linear(8, 2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        maps = self.reflected(self.dilated(self.grouped(self.plain(self.stem(pixel_values)))))
        maps = self.asked(maps) * self.asked.stride[0]
        tokens = self.line(maps.flatten(2)).mean(2)
        self.unused(tokens)
        tokens = nn.functional.linear(tokens, self.borrowed.weight)
        return self.head(self.other(self.one(tokens)))


def test_each_kind_of_module_that_an_adapter_cannot_serve_is_excluded_with_its_reason() -> None:
    model = Oddities()
    found = find_targets(model, ("head",), lambda: model(torch.zeros(1, 3, 16, 16)))

    assert found.by_role == {"conv": ("plain",)}
    assert found.shapes == {"plain": (8, 8)}
    assert found.excluded == {
        "stem": "reads the pixels: its filters fit any photo, and adapting it costs a backward pass at full resolution",
        "grouped": "grouped convolution (2 groups)",
        "dilated": "dilation (2, 2), which PEFT's convolution adapter leaves out",
        "reflected": "padding mode reflect, which PEFT's convolution adapter leaves out",
        "asked": "the network reads its stride, which PEFT's wrapper does not pass on",
        "line": "Conv1d: only two-dimensional convolutions are adapted",
        "borrowed": "not called in forward: its weight is read from outside, where an adapter has no effect",
        "unused": "has no part in the logits",
        "one": "shares its weight with other",
        "other": "shares its weight with one",
    }
    assert all(type(module).__module__.startswith("torch.nn") for module in model.children())


def test_blocks_of_stages_come_flattened_in_order() -> None:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 2], num_heads=[1, 2], window_size=4)
    blocks = find_blocks(SwinForImageClassification(config), ("classifier",))

    assert [name.partition("layers.")[2] for name in blocks] == ["0.blocks.0", "1.blocks.0", "1.blocks.1"]


def test_a_timm_config_that_repeats_its_number_of_classes_is_read(tmp_path: Path) -> None:
    facts = read_facts(Model(name=str(write_timm(tmp_path, repeat_classes=True))))

    assert facts.head == ("timm_model.head",)


def test_the_licence_is_the_one_that_timm_states(tmp_path: Path) -> None:
    folder = write_timm(tmp_path)
    edit_config(folder, license="apache-2.0")

    assert read_facts(Model(name=str(folder))).licence == "apache-2.0"


def test_the_licence_of_a_transformers_checkpoint_is_that_of_its_card(tmp_path: Path) -> None:
    write_vit(tmp_path)
    assert read_facts(Model(name=str(tmp_path))).licence is None
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A ViT\n", encoding="utf-8")
    assert read_facts(Model(name=str(tmp_path))).licence == "cc-by-nc-4.0"
    (tmp_path / "README.md").write_text("no front matter", encoding="utf-8")
    assert read_facts(Model(name=str(tmp_path))).licence is None


@pytest.mark.e2e
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "targets", "blocks"),
    [
        ("vit_tiny_timm", {"attention": 24, "mlp": 24}, 12),
        ("vit_tiny_transformers", {"attention": 48, "mlp": 24}, 12),
        ("mobilenetv2_timm", {"conv": 34}, 17),
    ],
)
def test_facts_of_the_real_checkpoints(shared_data: Path, name: str, targets: dict[str, int], blocks: int) -> None:
    facts = read_facts(Model(name=str(shared_data / "weights" / name)), num_labels=1000)

    assert {role: len(names) for role, names in facts.targets.items()} == targets
    assert len(facts.blocks) == blocks
    assert facts.parameters == {"mobilenetv2_timm": 3_504_872}.get(name, 5_717_416)


def test_the_operations_of_a_forward_pass_are_counted_without_weights() -> None:
    from hf_finetune.backbones.measure import forward_flops

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.head = nn.Linear(8, 5)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.head(self.grouped(self.patches(pixel_values)).flatten(2).mean(-1))

    class Odd(Net):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.numpy()

    with torch.device("meta"):
        net, odd = Net(), Odd()
    convolutions = 2 * (8 * 3 * 4 * 4) * 49 + 2 * (8 * 3 * 3) * 49  # on 28 px
    assert forward_flops(net, 28, 28) == convolutions + 2 * 8 * 5
    assert forward_flops(odd, 28, 28) is None
    assert net.training and not net.head._forward_hooks
