"""Pretrains the starter backbone: `python -m dev.starter.pretrain --out DIR`.

Owns the backbone's architecture, the training loop and the files it writes. Does not own what is drawn (`draw.py`).
Supervised classification of drawn images; every image is seen once. The head over the drawn classes is thrown away.
The figures that the result reached are in docs/STARTER.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import math
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from dev.starter.draw import SIDE, Drawings

logger = logging.getLogger(__name__)
HEAD = "classifier."


@dataclass(frozen=True)
class Settings:
    """All that the weights follow from, given the library versions. Learning rates are peaks."""

    seed: int = 0
    steps: int = 1200
    batch: int = 256
    characters: int = 640
    kept_patches: int = 24  # of 64, drawn afresh for each image
    whole_share: float = 0.15  # of the steps, at the end, see all patches
    learning_rate: float = 3e-3
    matrix_learning_rate: float = 0.02
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    width: int = 96
    depth: int = 6
    heads: int = 3
    patch: int = 4
    bf16: bool = True
    threads: int = 1


def build(settings: Settings, classes: int) -> ViTForImageClassification:
    """The starter's architecture, untrained: pixel_values float32 [B, 3, 32, 32] to logits [B, classes]."""
    config = ViTConfig(
        hidden_size=settings.width,
        num_hidden_layers=settings.depth,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        image_size=SIDE,
        patch_size=settings.patch,
    )
    config.num_labels = classes
    # Eager attention trains almost twice as fast as SDPA here (bf16 on one AVX512-BF16 core, 65 tokens, 2026-11-23).
    return ViTForImageClassification._from_config(config, attn_implementation="eager")


def initialise(model: ViTForImageClassification) -> None:
    """Random weights of a scale that suits this width: the library's 0.02 is meant for widths near 768.

    Variance 1 / fan-in, half the deviation where a block writes to the residual; patches start from fixed sine and
    cosine positions (Vaswani et al. 2017, in two dimensions), which training then moves.
    """
    embeddings = model.vit.embeddings
    with torch.no_grad():
        for name, module in model.vit.layers.named_modules():
            if isinstance(module, torch.nn.Linear):
                writes = name.endswith(("o_proj", "fc2"))
                torch.nn.init.normal_(module.weight, std=(0.5 if writes else 1.0) / math.sqrt(module.in_features))
        filters = embeddings.patch_embeddings.projection.weight
        torch.nn.init.normal_(filters, std=1 / math.sqrt(filters[0].numel()))
        positions = embeddings.position_embeddings  # [1, 1 + patches, width]
        side = math.isqrt(positions.shape[1] - 1)
        positions[0, 0] = 0.0
        positions[0, 1:] = 0.5 * _positions(side, positions.shape[2])


def _positions(side: int, width: int) -> torch.Tensor:
    """float32 [side · side, width]: sine and cosine of x and of y at width / 4 frequencies from 1 down to 1/100."""
    frequencies = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (x, y)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def logits_of(model: ViTForImageClassification, pixels: torch.Tensor, kept: int | None) -> torch.Tensor:
    """Logits [B, classes] of float32 pixels [B, 3, H, W], from `kept` random patches of each image or from all.

    Dropping patches makes a step cheaper and the task harder (Liu et al. 2023, "PatchDropout").
    """
    tokens = model.vit.embeddings(pixels)
    if kept is not None:
        order = torch.rand(len(pixels), tokens.shape[1] - 1).argsort(dim=1)[:, :kept] + 1
        chosen = tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([tokens[:, :1], chosen], dim=1)
    for layer in model.vit.layers:
        tokens = layer(tokens, None)
    return model.classifier(model.vit.layernorm(tokens)[:, 0])


def optimizers(model: ViTForImageClassification, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for all else; decay on matrices only."""
    matrices = [tensor for tensor in model.vit.layers.parameters() if tensor.ndim == 2]
    taken = {id(tensor) for tensor in matrices}
    others = [tensor for tensor in model.parameters() if id(tensor) not in taken]
    groups = [
        {"params": [tensor for tensor in others if tensor.ndim == 2], "weight_decay": settings.weight_decay},
        {"params": [tensor for tensor in others if tensor.ndim != 2], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(matrices, lr=settings.matrix_learning_rate, weight_decay=settings.weight_decay)
    return [muon, torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))]


def pretrain(settings: Settings) -> tuple[ViTForImageClassification, list[float]]:
    """Train from random weights; returns the model in float32 and the loss of every step.

    The same settings give the same weights bit for bit on the same machine and library versions.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    drawings = Drawings(settings.seed, settings.characters)
    model = build(settings, len(drawings.names)).train()
    initialise(model)
    both = optimizers(model, settings)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _pace(step, settings)) for each in both]
    losses: list[float] = []
    started = time.process_time()
    for step in range(settings.steps):
        pixels, labels = drawings.batch(step * settings.batch, settings.batch)
        kept = settings.kept_patches if step < (1 - settings.whole_share) * settings.steps else None
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            logits = logits_of(model, torch.from_numpy(pixels).float() / 127.5 - 1, kept)
        loss = cross_entropy(logits.float(), torch.from_numpy(labels), label_smoothing=settings.label_smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        for optimizer, schedule in zip(both, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            mean, seconds = sum(losses[-50:]) / 50, time.process_time() - started
            logger.info("step %d of %d, loss %.3f, %.0f s of processor time", step + 1, settings.steps, mean, seconds)
    return model.eval(), losses


def _pace(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017, without restarts)."""
    warmup = max(1, round(settings.warmup_share * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))


def write(model: ViTForImageClassification, out: Path) -> None:
    """config.json, model.safetensors (without the head) and preprocessor_config.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(HEAD)}
    model.config.num_labels = 2  # of drawn classes nothing is kept; 2 is the library's default
    model.save_pretrained(out, state_dict=kept)
    ViTImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2
    ).save_pretrained(out)


def write_settings(settings: Settings, losses: list[float], minutes: float, out: Path) -> None:
    """SETTINGS.json: what made the weights beside it, and their sha256."""
    weights = out / "model.safetensors"
    tail = losses[-100:]
    facts = {
        "made_by": "python -m dev.starter.pretrain",
        "settings": dataclasses.asdict(settings),
        "images_drawn": settings.steps * settings.batch,
        "final_loss": round(sum(tail) / len(tail), 4),
        "processor_minutes": round(minutes, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "licence": "Apache-2.0, as the project; trained on nothing but images that draw.py drew",
    }
    (out / "SETTINGS.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {platform.machine()}"
    return f"{platform.processor()}, {platform.machine()}"


def main(arguments: list[str] | None = None) -> None:
    """Command line: each setting is an option, `--steps 2000` and so on."""
    parser = argparse.ArgumentParser(prog="python -m dev.starter.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    for field in dataclasses.fields(Settings):
        if isinstance(field.default, bool):
            parser.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(f"--{field.name}".replace("_", "-"), type=type(field.default), default=field.default)
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(**options)
    started = time.process_time()
    model, losses = pretrain(settings)
    write(model, out)
    write_settings(settings, losses, (time.process_time() - started) / 60, out)


if __name__ == "__main__":
    main()
