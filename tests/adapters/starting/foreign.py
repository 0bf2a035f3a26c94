"""Adapters as others make them: with stock transformers and PEFT alone, and under the names of transformers 4."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Of transformers 4.57's modeling_vit.py, modeling_dinov2.py, modeling_swin.py and modeling_beit.py.
_INSIDE = (
    (r"\.mlp\.fc1$", ".intermediate.dense"),
    (r"\.mlp\.fc2$", ".output.dense"),
    (r"\.attention\.o_proj$", ".attention.output.dense"),
)
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}


def former(name: str) -> str:
    """The module's name in transformers 4: ViT, BEiT, DINOv2 and Swin."""
    if name.startswith("dinov2."):
        inside, attention = _INSIDE[2:], "attention.attention"
    elif name.startswith("swin."):
        inside, attention = _INSIDE, "attention.self"
    else:
        name = re.sub(r"^(\w+)\.layers\.", r"\1.encoder.layer.", name)
        inside, attention = _INSIDE, "attention.attention"
    for pattern, before in inside:
        name = re.sub(pattern, before, name)
    return re.sub(r"\.attention\.([qkv]_proj)$", lambda m: f".{attention}.{_ATTENTION[m[1]]}", name)


def load_base(base: Path, classes: int) -> PreTrainedModel:
    """The base with a head of `classes` outputs, in eval mode: always the same one."""
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForImageClassification.from_pretrained(
            base, num_labels=classes, ignore_mismatched_sizes=True
        ).eval()


def save_foreign(
    base: Path,
    folder: Path,
    *,
    classes: int = 3,
    head: Sequence[str] = ("classifier",),
    targets: Sequence[str] | str = ("q_proj", "v_proj"),
    name: str | None = None,
    **options: Any,
) -> Path:
    """A LoRA of rank 4 and alpha 12 with random factors and head, as stock PEFT saves it; `name`: what its base is
    called."""
    settings = {"r": 4, "lora_alpha": 12, "modules_to_save": list(head) or None, **options}
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load_base(base, classes), LoraConfig(target_modules=targets, **settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(str(folder), save_embedding_layers=False)
    if name is not None:
        edit(folder, base_model_name_or_path=name)
    return folder


def edit(folder: Path, **changes: Any) -> Path:
    """Change adapter_config.json."""
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def rename(folder: Path, to: Callable[[str], str], targets: Sequence[str]) -> Path:
    """Rename the modules of every tensor, and the targets."""
    tensors = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        match = re.fullmatch(r"base_model\.model\.(.+?)\.(lora_[AB]\.weight|weight|bias)", key)
        assert match is not None, key
        tensors[f"base_model.model.{to(match[1])}.{match[2]}"] = tensor.clone()
    save_file(tensors, folder / WEIGHTS)
    return edit(folder, target_modules=list(targets))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = dict(load_file(folder / WEIGHTS))
    change(tensors)
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / WEIGHTS)
    return folder


def give_labels(folder: Path, names: Sequence[str]) -> Path:
    """Write the labels beside the adapter, as transformers' own config.json has them."""
    (folder / "config.json").write_text(json.dumps({"id2label": {str(n): each for n, each in enumerate(names)}}))
    return folder


@torch.no_grad()
def stock_logits(base: Path, folder: Path, pixels: Tensor, classes: int = 3) -> Tensor:
    """What stock transformers and PEFT say with this adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(load_base(base, classes), str(folder)).eval()
    return model(pixel_values=pixels).logits
