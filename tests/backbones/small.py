"""Small checkpoints on disk for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "do_resize": True}


def write_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))


def write_vit(folder: Path, names: tuple[str, ...] = ("a", "b", "c"), dtype: torch.dtype | None = None) -> Path:
    """A two-block ViT for 32-pixel images with random weights, as transformers saves it."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    torch.manual_seed(0)
    ViTForImageClassification(config).to(dtype or torch.float32).save_pretrained(folder)
    write_processor(folder)
    return folder


def write_resnet(folder: Path) -> Path:
    """A small ResNet of transformers, which (unlike its ViT) does not cast the images that it gets."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], num_labels=5)
    ResNetForImageClassification(config).save_pretrained(folder)
    write_processor(folder)
    return folder


def write_timm(folder: Path, name: str = "test_vit", repeat_classes: bool = False, **arguments: Any) -> Path:
    """A timm model with random weights and five classes, as timm saves it; 32-pixel images."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **arguments)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 32, 32)}
    save_for_hf(model, folder, model_args=dict(arguments), safe_serialization=True)
    about = json.loads((folder / "config.json").read_text())
    about["model_args"] = {**arguments, "num_classes": 5} if repeat_classes else arguments
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, drop: str = "", rename: tuple[str, str] | None = None, reshape: str = "") -> None:
    """Damage model.safetensors: drop a tensor, rename one, or cut one to half its rows."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    if drop:
        del tensors[drop]
    if rename:
        tensors[rename[1]] = tensors.pop(rename[0])
    if reshape:
        tensors[reshape] = tensors[reshape][: len(tensors[reshape]) // 2].clone()
    save_file(tensors, path, metadata={"format": "pt"})
