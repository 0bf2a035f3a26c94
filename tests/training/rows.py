"""Small real things to train on: pixel rows in memory, a tiny ViT with LoRA, a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from hf_finetune.adapters import Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.labels import LabelColumn, Labels
from hf_finetune.pipeline.prepare import settle_task
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.types import BackboneFacts, Decision, Index, Machine, Plan, Preprocess, Resize, Row, Split

LABELS = Labels(("n/a", "1", "true"))
SIDE = 16
PREPROCESS = Preprocess(
    steps=(Resize(SIDE, SIDE, 2),),
    height=SIDE,
    width=SIDE,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    scale=1 / 255,
    offset=0.0,
    bgr=False,
    resample=2,
    source="test",
)


class MemoryRows:
    """PixelRows in memory: noise whose brightness tells the class."""

    def __init__(self, count: int, side: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.labels = np.arange(count, dtype=np.int64) % len(LABELS.names)
        base = (60 + 60 * self.labels)[:, None, None, None]
        noise = random.integers(-40, 40, (count, 3, side, side))
        self.pixels = np.clip(base + noise, 0, 255).astype(np.uint8)
        self.sizes = np.full((count, 2), side, dtype=np.int32)
        self.names = [f"row{number}.png" for number in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices].copy()


def save_tiny_vit(folder: Path, *, classes: int = 5) -> Path:
    """A random ViT of two blocks, as a local checkpoint."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=SIDE,
        patch_size=4,
        num_labels=classes,
    )
    model = ViTForImageClassification(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 2}'
    )
    return folder


def tiny_recipe(folder: Path, **sections: object) -> Recipe:
    """A recipe on the tiny ViT in fp32, with strong augmentation and mixing unless told otherwise."""
    content: dict[str, object] = {
        "model": {"name": str(folder)},
        "augment": {"mixup": 0.8, "cutmix": 1.0, "color": 0.3, "erasing": 0.25},
        "train": {"precision": "fp32", "learning_rate": 0.003, "effective_batch_size": 32},
    }
    return load_recipe({**content, **sections})


def adapted(recipe: Recipe, adapter: Lora | None = None) -> tuple[nn.Module, BackboneFacts]:
    """The recipe's model with its adapter, and its facts."""
    facts = read_facts(recipe.model, len(LABELS.names))
    model = load_backbone(Model(name=recipe.model.name), LABELS, dtype=torch.float32, seed=0)
    torch.manual_seed(1)
    return (adapter or recipe.adapter).apply(model, facts), facts


def context_of(recipe: Recipe, plan: Plan, facts: BackboneFacts | None = None, labels: Labels = LABELS) -> RunContext:
    """What a run on rows in memory knows; without `facts` those of the recipe's backbone, which sees small images."""
    machine = Machine("cpu", "some CPU", 16 * 10**9, 16 * 10**9, 2, False, 1, 0, 0, "Linux")
    rows = tuple(Row(f"row{number}.png", number, number) for number in range(len(labels.names)))  # one of each class
    splits: dict[Split, tuple[Row, ...]] = {"train": rows}
    columns = (LabelColumn("", "classes", labels.names),)
    index = Index("memory", "r", None, None, labels, splits, (), (), (), None, columns=columns)  # pyright: ignore[reportArgumentType]
    recipe, index = settle_task(recipe, index)
    facts = facts or replace(read_facts(recipe.model, len(labels.names)), preprocess=PREPROCESS)
    return RunContext(recipe, index, machine, facts, plan, recipe, None)


def tiny_plan(*, batch: int = 32, micro: int = 32, steps: int = 6, rate: float = 0.003) -> Plan:
    """A plan for one CPU process."""
    values = {
        "device": "cpu",
        "precision": "fp32",
        "effective_batch": batch,
        "micro_batch": micro,
        "accumulation": batch // micro,
        "eval_batch": 16,
        "checkpointing": 0,
        "decode_workers": 1,
        "store": "decoded once",
        "train_side": SIDE + 2,
        "epochs": 1.0,
        "steps": steps,
        "warmup_steps": 0,
        "learning_rate": rate,
        "trainable_parameters": 0,
    }
    return Plan(**{name: Decision(value, "test") for name, value in values.items()})
