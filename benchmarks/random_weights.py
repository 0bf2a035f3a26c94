"""Checkpoints of any size with random weights, written tensor by tensor: nothing of the model is held in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_KINDS = {torch.float32: "F32", torch.bfloat16: "BF16"}
# Width, depth, heads and inner width of ViTs with patches of 16, as transformers configures them.
VIT = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}


def write_vit(folder: Path, size: str, dtype: torch.dtype) -> Path:
    """A ViT of transformers for images of 224 px."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(num_labels=5, architectures=["ViTForImageClassification"], **VIT[size])
    with torch.device("meta"):
        model = ViTForImageClassification(config)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return _write(folder, model.state_dict(), dtype)


def write_timm(folder: Path, name: str, dtype: torch.dtype, **arguments: Any) -> Path:
    """A ViT of timm for images of 224 px."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5, **arguments)
    about = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    about |= {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 5, "first_conv": "patch_embed.proj"}
    config = {"architecture": name, "num_classes": 5, "num_features": model.num_features, "model_args": arguments}
    folder.mkdir(parents=True)
    text = json.dumps(config | {"pretrained_cfg": about | {"classifier": "head", "fixed_input_size": True}})
    (folder / "config.json").write_text(text, encoding="utf-8")
    return _write(folder, model.state_dict(), dtype)


def _write(folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Path:
    """model.safetensors: the length of the header (8 bytes, little-endian), the header, the tensors' bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = {"dtype": _KINDS[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            value = torch.zeros(tensor.shape) if name.endswith("bias") else torch.ones(tensor.shape)
            if tensor.ndim > 1:
                value = 0.02 * torch.randn(tensor.shape, generator=generator)
            file.write(value.to(dtype).reshape(-1).view(torch.uint8).numpy().tobytes())
    return folder
