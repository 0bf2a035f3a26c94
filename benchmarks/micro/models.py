"""ViTs with random weights that the benchmarks train, as the product prepares them and as stock libraries do.

The micro-benchmarks' has ViT-Tiny's width, tokens (197) and heads with four blocks: a block costs what it costs in the
real one. Both sides adapt the same modules with the same rank and train the same head.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from safetensors.torch import save_file
from timm.layers.attention import Attention
from torch import nn
from transformers import AutoModelForImageClassification

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.pipeline.images import Images, open_images
from hf_finetune.pipeline.model import build_model
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import Decision
from micro.photos import CLASSES
from micro.saved import saved_bytes_per_image

ARCHITECTURE = "vit_tiny_patch16_224"
BATCH = 8
RANK = 8
Step = Callable[[], None]


@dataclass(frozen=True)
class Ours:
    """A run up to its first rung: everything planned, the images in the store, the adapted model."""

    context: RunContext
    images: Images
    model: nn.Module

    @property
    def backbone(self) -> Any:
        return self.model.get_base_model()  # pyright: ignore[reportCallIssue]


def write_checkpoint(folder: Path, depth: int | None = None, architecture: str = ARCHITECTURE) -> Path:
    """Random weights in the layout of timm's Hub folders; `depth` None: the architecture's own."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    own = {} if depth is None else {"depth": depth}
    model = timm.create_model(architecture, num_classes=len(CLASSES), **own)
    about = {
        "architecture": architecture,
        "num_classes": len(CLASSES),
        "num_features": model.num_features,
        "pretrained_cfg": {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3},
        "model_args": own,
    }
    (folder / "config.json").write_text(json.dumps(about))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_plan(checkpoint: Path, photos: Path, folder: Path, quantization: str = "none") -> RunContext:
    """What `train` knows before it loads anything, in bfloat16."""
    content: dict[str, Any] = {
        "model": {"name": str(checkpoint)},
        "data": {"name": str(photos), "cache_dir": str(folder / "cache")},
        "adapter": {"kind": "lora", "rank": RANK},
        "quantization": {"kind": quantization},
        "train": {"precision": "bf16", "effective_batch_size": BATCH, "decode_workers": 1},
        "ladder": ["probe", "cached", "full"],
        "output": {"dir": str(folder / "run")},
    }
    return prepare_run(load_recipe(content))


def prepare_ours(checkpoint: Path, photos: Path, folder: Path, quantization: str = "none") -> Ours:
    """What `train` does before its first rung, in bfloat16."""
    context = make_plan(checkpoint, photos, folder, quantization)
    return Ours(context, open_images(context), build_model(context))


def stock_model(checkpoint: Path, **loading: Any) -> Any:
    """As transformers loads it, with a head for the classes."""
    return AutoModelForImageClassification.from_pretrained(
        checkpoint, num_labels=len(CLASSES), ignore_mismatched_sizes=True, **loading
    )


def stock_peft(checkpoint: Path, context: RunContext) -> nn.Module:
    """The same modules adapted as PEFT's documentation does it: a float32 backbone, bfloat16 left to autocast.

    A quantized one is prepared by PEFT's own function, without checkpointing, which ours does not do here either.
    """
    kind, device = context.recipe.quantization, context.plan.device.value
    quantization = kind.config(context.facts.head)
    if quantization is None:
        model = stock_model(checkpoint).to(device)
    else:
        model = stock_model(checkpoint, quantization_config=quantization, device_map={"": device})
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=[name for names in context.facts.targets.values() for name in names],
        modules_to_save=list(context.facts.head),
    )
    with warnings.catch_warnings():
        # 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return get_peft_model(model, config)


def plain_step(model: nn.Module, *, autocast: bool, batch: int = BATCH) -> Step:
    """Forward, backward and update on normalised pixels that are on the model's device; done when it returns."""
    device = next(model.parameters()).device
    pixels = torch.randn(batch, 3, 224, 224, device=device)
    labels = torch.arange(batch, device=device) % len(CLASSES)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    model.train()
    return step


def kept_by_a_block(
    photos: Path, folder: Path, quantization: str, *, lean: bool | None = None, fused_attention: bool = False
) -> tuple[int, int]:
    """Bytes that autograd keeps for an image, ours and PEFT's, of a model of four blocks less those of one of two, by
    two. `lean`: what can be made again is (None: as planned)."""
    found: dict[int, tuple[int, int]] = {}
    for depth in (2, 4):
        checkpoint = write_checkpoint(folder / f"vit{depth}", depth)
        ours = prepare_ours(checkpoint, photos, folder / f"run{depth}", quantization)
        for module in ours.model.modules():
            if fused_attention and isinstance(module, Attention):
                module.fused_attn = True
        plan = ours.context.plan
        if lean is not None:
            plan = replace(plan, activations=Decision("made again" if lean else "kept", "measured"))
        with training_forms(ours.model, plan):
            low = saved_bytes_per_image(ours.model, 224, 224)
        with torch.autocast("cpu", torch.bfloat16):
            plain = saved_bytes_per_image(stock_peft(checkpoint, ours.context), 224, 224)
        found[depth] = low, plain
    ours_bytes, stock_bytes = ((found[4][side] - found[2][side]) // 2 for side in range(2))
    return ours_bytes, stock_bytes
