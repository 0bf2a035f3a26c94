"""A small real classifier whose head and second block are watched, and images for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import Outputs
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.surgery.cut import Watch
from tests.training.rows import LABELS, SIDE, save_tiny_vit


def tiny(folder: Path, dtype: torch.dtype = torch.float32, kind: type[Eager] = Eager) -> Eager:
    """The torch model of a random ViT of two blocks; the same for the same folder."""
    path = folder if folder.exists() else save_tiny_vit(folder)
    model: Any = load_backbone(Model(name=str(path)), LABELS, dtype=dtype, seed=0, plain_attention=True)
    return kind(model, Watch([model.classifier], model.get_submodule("vit.layers.1")))


class Slow(Eager):
    """Takes two milliseconds an image longer."""

    def __call__(self, inputs: Tensor) -> Outputs:
        time.sleep(0.002 * len(inputs))
        return super().__call__(inputs)


class Broken(Eager):
    """Fails as a kernel may."""

    name = "a broken engine"

    def __call__(self, inputs: Tensor) -> Outputs:
        raise RuntimeError(f"Exception from src/x.cpp:7:\nno kernel for {len(inputs)} images")


def images(count: int) -> list[Tensor]:
    """Batches of sixteen, at least `count` images."""
    torch.manual_seed(1)
    return [torch.randn(16, 3, SIDE, SIDE) for _ in range(-(-count // 16))]
