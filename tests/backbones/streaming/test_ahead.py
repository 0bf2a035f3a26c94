"""Weights that stay in files: the same gradients, pages that the system may drop, and the next block's asked for."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_finetune.adapters import Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.streaming.converted import convert
from hf_finetune.backbones.streaming.mapped import MappedWeights
from hf_finetune.backbones.streaming.place import place_model
from hf_finetune.errors import ModelError
from tests.backbones.small import write_processor, write_resnet
from tests.backbones.streaming.deep import LABELS, build, form, same, steps, write


@pytest.mark.parametrize("kind", ["transformers", "timm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_out_of_files_are_those_of_the_ordinary_model(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    model = write(kind, tmp_path / "base")
    files = [tmp_path / "base" / "model.safetensors"]
    if dtype == torch.bfloat16:
        convert(files, tmp_path / "converted.safetensors", dtype)
        files = [tmp_path / "converted.safetensors"]
    ordinary, _ = build(model, dtype, Lora(rank=2))
    streamed, _ = build(model, dtype, Lora(rank=2), files)
    with form("low memory", ordinary), form("low memory", streamed):
        assert same(steps(ordinary), steps(streamed))


def test_the_next_block_is_asked_for_forward_and_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []
    monkeypatch.setattr(
        MappedWeights, "read_ahead", lambda _, tensors: asked.append({each.data_ptr() for each in tensors})
    )
    adapted, facts = build(
        write("timm", tmp_path / "base"), torch.float32, Lora(rank=2), [tmp_path / "base" / "model.safetensors"]
    )
    base: Any = adapted.get_base_model()
    owner = {
        weight.data_ptr(): number
        for number, name in enumerate(facts.blocks)
        for weight in base.get_submodule(name).parameters()
    }
    for way in ("plain", "recomputed"):
        asked.clear()
        with form(way, adapted):
            steps(adapted, 1)
        order = [owner[min(each)] for each in asked]
        assert [number for number, before in zip(order, [None, *order], strict=False) if number != before] == [
            *(1, 2, 3, 4),
            *(3, 2, 1, 0),
            *(1, 2, 3, 4),
        ], way


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def write_zeros(folder: Path, width: int) -> Model:
    """A ViT of two blocks with weights of zero in bfloat16, in a file without blocks on the disk."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=32, patch_size=8, hidden_size=width, num_hidden_layers=2, num_attention_heads=8)
    config.intermediate_size, config.architectures = 4 * width, ["ViTForImageClassification"]
    with torch.device("meta"):
        tensors = ViTForImageClassification(config).state_dict()
    config.save_pretrained(folder)
    write_processor(folder)
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return Model(name=str(folder))


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_anonymous_memory_does_not_grow_by_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "zeros"
    folder.mkdir()
    model = write_zeros(folder, 2048)
    files = [folder / "model.safetensors"]
    assert files[0].stat().st_size > 200_000_000
    before = anonymous_bytes()
    loaded = load_backbone(model, LABELS, dtype=torch.bfloat16, seed=0, frozen_files=files)
    pixels = torch.ones(1, 3, 32, 32)
    loss = loaded(pixel_values=pixels).logits.sum()
    loss.backward(inputs=list(loaded.classifier.parameters()))
    assert anonymous_bytes() - before < 60_000_000
    mapped = [weight for weight in loaded.parameters() if weight.dtype == torch.bfloat16]
    assert sum(weight.nbytes for weight in mapped) > 200_000_000


def test_a_network_without_blocks_is_refused(tmp_path: Path) -> None:
    place_model(nn.Linear(2, 2), (), "cpu", "disk")  # nothing to do: it was refused when it was loaded
    write_resnet(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "resnet"
    with pytest.raises(ModelError, match=r"repeated blocks are expected.*\n  set model.stream=off"):
        place_model(nn.Linear(2, 2), (), "meta", "disk")


def test_a_tensor_that_begins_at_an_odd_byte_is_read_all_the_same(tmp_path: Path) -> None:
    header = {
        "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "weight": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
        "none": {"dtype": "F32", "shape": [0, 4], "data_offsets": [11, 11]},
    }
    text = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"abc" + torch.tensor([1.5, -2.0]).numpy().tobytes())
    mapped = MappedWeights([file])
    assert mapped.tensors["weight"].tolist() == [1.5, -2.0]
    assert mapped.tensors["none"].shape == (0, 4)
    mapped.read_ahead(mapped.tensors.values())
    assert mapped.holds(mapped.tensors["odd"]) and hasattr(mmap, "MADV_WILLNEED") == (sys.platform != "win32")
