"""Is the starter a real starting point? LoRA on it against the same architecture from random weights, on digits.

    python benchmarks/starter_vs_scratch.py --results results.json --out table.md

Four ways at 10, 50 and all training images a class of `builtin:digits` (scikit-learn's handwritten digits):

- LoRA (rank 8, every linear layer of the blocks, head trained) on the starter, through peft;
- full fine-tuning of the same architecture from random weights (with `initialise`, the better of two inits here);
- logistic regression on the 64 raw pixels;
- logistic regression on the starter's frozen class token.

The test split is a stratified 25 % fixed by seed 0. A stratified 15 % of the rest is validation, on which each way
picks its settings from a grid, once for each size with the first seed; test is scored once, with the picked settings.
The seed draws the training images and the random weights. No augmentation anywhere. Owns no part of the product's
pipeline.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification

from dev.starter.pretrain import initialise
from hf_finetune.backbones.checkpoint import builtin_path

SIZES = {"10": 10, "50": 50, "all": None}
EPOCHS = {"10": (100, 200), "50": (40,), "all": (20,)}
RATES = {"lora": (1e-3, 3e-3, 1e-2), "scratch": (1e-4, 3e-4, 1e-3, 3e-3)}
INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
WAYS = {
    "lora": "LoRA on the starter",
    "scratch": "full fine-tuning from random weights",
    "raw": "logistic regression, raw pixels",
    "frozen": "logistic regression, starter's frozen features",
}


class Digits:
    """Pixels as the starter's stock processor gives them, raw values, labels, and the fixed splits."""

    def __init__(self) -> None:
        values, self.target = (np.asarray(part) for part in load_digits(return_X_y=True))
        grey = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
        processor = AutoImageProcessor.from_pretrained(builtin_path("builtin:starter"), backend="pil")
        images = [Image.fromarray(image).convert("RGB") for image in grey]
        self.pixels = processor(images, return_tensors="pt")["pixel_values"]  # float32 [N, 3, 32, 32]
        self.raw = values / 16
        rest, self.test = _split(np.arange(len(grey)), self.target, 0.25)
        self.train, self.validation = _split(rest, self.target, 0.15)

    def pick(self, size: int | None, seed: int) -> np.ndarray:
        """Rows of `size` training images a class, drawn by `seed`; all of them where `size` is None."""
        if size is None:
            return self.train
        rng = np.random.default_rng(seed)
        own = [self.train[self.target[self.train] == label] for label in range(10)]
        return np.concatenate([rng.permutation(rows)[:size] for rows in own])


def _split(rows: np.ndarray, target: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    kept, held = train_test_split(rows, test_size=share, stratify=target[rows], random_state=0)
    return np.asarray(kept), np.asarray(held)


def lora_model(seed: int) -> torch.nn.Module:
    """The packaged starter with a fresh head for ten classes and LoRA of rank 8 on every linear layer of its blocks."""
    torch.manual_seed(seed)
    model = ViTForImageClassification.from_pretrained(
        builtin_path("builtin:starter"), num_labels=10, attn_implementation="eager"
    )
    linear = torch.nn.Linear
    targets = [name for name, module in model.named_modules() if ".layers." in name and isinstance(module, linear)]
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, modules_to_save=["classifier"]))


def scratch_model(seed: int) -> torch.nn.Module:
    """The starter's architecture with random weights and a head for ten classes."""
    torch.manual_seed(seed)
    config = ViTConfig.from_pretrained(builtin_path("builtin:starter"), num_labels=10)
    model = ViTForImageClassification._from_config(config, attn_implementation="eager")
    initialise(model)
    return model


def fit(model: torch.nn.Module, digits: Digits, rows: np.ndarray, rate: float, epochs: int, seed: int) -> None:
    """AdamW, batches of 32, 10 % warm-up, cosine to zero; bf16 autocast where that is faster than float32."""
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.05)
    rng = np.random.default_rng(seed)
    steps = epochs * math.ceil(len(rows) / 32)
    warmup, step = max(1, steps // 10), 0
    model.train()
    for _ in range(epochs):
        order = rng.permutation(rows)
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)))
            optimizer.param_groups[0]["lr"] = rate * min((step + 1) / warmup, cosine)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(pixel_values=digits.pixels[batch]).logits
            torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(digits.target[batch])).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1


def accuracy(model: torch.nn.Module, digits: Digits, rows: np.ndarray) -> float:
    """Share of `rows` whose largest logit is their label, in float32."""
    model.eval()
    with torch.no_grad():
        guesses = torch.cat([model(pixel_values=digits.pixels[part]).logits.argmax(1) for part in _parts(rows)])
    return float((guesses.numpy() == digits.target[rows]).mean())


def frozen_features(digits: Digits) -> np.ndarray:
    """float32 [N, width]: the class token after the last LayerNorm, no training."""
    model = ViTForImageClassification.from_pretrained(builtin_path("builtin:starter")).vit.eval()
    with torch.no_grad():
        everything = _parts(np.arange(len(digits.target)))
        return torch.cat([model(digits.pixels[part]).last_hidden_state[:, 0] for part in everything]).numpy()


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + 256] for start in range(0, len(rows), 256)]


def network(way: str, digits: Digits, size: str, seeds: list[int]) -> tuple[list[float], dict[str, float]]:
    """Test accuracies of the picked settings by seed, and those settings."""
    make = lora_model if way == "lora" else scratch_model
    scored = []
    for rate in RATES[way]:
        for epochs in EPOCHS[size]:
            model = make(seeds[0])
            fit(model, digits, digits.pick(SIZES[size], seeds[0]), rate, epochs, seeds[0])
            scored.append((accuracy(model, digits, digits.validation), rate, epochs, model))
            print(f"  {way} {size}: rate {rate:g}, {epochs} epochs: validation {scored[-1][0]:.3f}", flush=True)
    _, rate, epochs, first = max(scored, key=lambda row: row[0])
    tests = [accuracy(first, digits, digits.test)]
    for seed in seeds[1:]:
        model = make(seed)
        fit(model, digits, digits.pick(SIZES[size], seed), rate, epochs, seed)
        tests.append(accuracy(model, digits, digits.test))
    return tests, {"learning_rate": rate, "epochs": epochs}


def regression(features: np.ndarray, digits: Digits, size: str, seeds: list[int]) -> tuple[list[float], dict]:
    """Logistic regression; scikit-learn's C, and whether to standardise, picked on validation with the first seed."""

    def fitted(penalty: float, scaled: bool, seed: int):
        rows = digits.pick(SIZES[size], seed)
        scaler = StandardScaler(with_mean=scaled, with_std=scaled)
        head = make_pipeline(scaler, LogisticRegression(C=penalty, max_iter=10_000))
        return head.fit(features[rows], digits.target[rows])

    def score(head, rows: np.ndarray) -> float:
        return float(head.score(features[rows], digits.target[rows]))

    grid = [(penalty, scaled) for penalty in INVERSE_PENALTIES for scaled in (True, False)]
    best = max(grid, key=lambda point: score(fitted(*point, seeds[0]), digits.validation))
    tests = [score(fitted(*best, seed), digits.test) for seed in seeds]
    return tests, {"C": best[0], "standardised": best[1]}


def table(cells: dict[str, dict]) -> str:
    """Markdown of the cells `way size`: mean and range over the seeds, and the settings picked on validation."""
    sizes = [size for size in SIZES if any(name.split()[1] == size for name in cells)]
    lines = [
        "| test accuracy | " + " | ".join(f"{size} a class" for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for way, title in WAYS.items():
        row = [cells.get(f"{way} {size}") for size in sizes]
        shown = [
            f"{np.mean(c['tests']):.3f} ({min(c['tests']):.3f} to {max(c['tests']):.3f})" if c else "" for c in row
        ]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    picked = "; ".join(f"{name}: {json.dumps(cell['picked'])}" for name, cell in cells.items())
    minutes = sum(cell["seconds"] for cell in cells.values()) / 60
    return "\n".join([*lines, "", f"Picked on validation: {picked}.", f"{minutes:.0f} minutes of processor time.", ""])


def main() -> None:
    """Runs the cells that `--results` does not hold yet, saving each as it ends, then prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON of finished cells, read and added to")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    digits = Digits()
    cells = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {}
    for way in options.ways:
        features = {"raw": lambda: digits.raw, "frozen": lambda: frozen_features(digits)}.get(way)
        for size in options.sizes:
            if f"{way} {size}" in cells:
                continue
            started = time.process_time()
            if features is None:
                tests, picked = network(way, digits, size, options.seeds)
            else:
                tests, picked = regression(features(), digits, size, options.seeds)
            seconds = time.process_time() - started
            cells[f"{way} {size}"] = {"tests": tests, "picked": picked, "seconds": seconds, "seeds": options.seeds}
            options.results.write_text(json.dumps(cells, indent=1), encoding="utf-8")
            print(way, size, cells[f"{way} {size}"], flush=True)
    made = f"{datetime.now(UTC).date()}, {platform.machine()}, {os.cpu_count()} cores, {options.threads} thread(s)\n\n"
    options.out.write_text(made + table(cells), encoding="utf-8")
    print(table(cells))


if __name__ == "__main__":
    main()
