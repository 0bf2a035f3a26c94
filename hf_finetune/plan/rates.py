"""Learning rates where the recipe says `auto`: a base rate by adapter and optimizer, scaled with the batch. Pure."""

from __future__ import annotations

import math

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import Decision

# Learning rates at 64 images an update. LoRA wants about ten times the rate of full fine-tuning ("LoRA Without
# Regret", Thinking Machines Lab, 2025-09); the full rate is the usual 1e-4 to 5e-5 for ViTs with AdamW (Steiner et al.
# 2021, arXiv 2106.10270, fine-tune with SGD); values checked on TrashNet (docs/experiments.md,
# "Settings of the full rung").
BASE_RATES = {
    "adamw": {"lora": 1e-3, "head_only": 3e-3, "full": 1e-4},
    "sgd": {"lora": 1e-1, "head_only": 1e-1, "full": 1e-2},
    # Lion's sign updates are larger: a third to a tenth of AdamW's rate (Chen et al. 2023, arXiv 2302.06675).
    "lion": {"lora": 2e-4, "head_only": 5e-4, "full": 2e-5},
}
SOURCES = {
    # Adaptive methods: square root (arXiv 2205.10287); SGD: linear (arXiv 1706.02677).
    "sqrt": "× √(batch/64), Malladi et al. 2022",
    "linear": "× batch/64, Goyal et al. 2017",
}


def learning_rate(recipe: Recipe, batch: int) -> Decision[float]:
    """Of training at every depth, with `batch` images an update."""
    if recipe.train.learning_rate != "auto":
        return Decision(recipe.train.learning_rate, "as the recipe says")
    family, base = _base(recipe)
    rule = "linear" if family == "sgd" else "sqrt"
    ratio = batch / 64
    rate = base * (ratio if rule == "linear" else math.sqrt(ratio))
    return Decision(float(f"{rate:.3g}"), f"{base:g} for {recipe.adapter.kind} with {family} {SOURCES[rule]}")


# Times the base rate, at any batch up to 64. On held-out photos (last 6 of 12 blocks of ViT-Tiny; docs/experiments.md,
# "Depth, patches and rate of the cached rung"), updates of 32, 110 in all: 2e-3 .902, 4e-3 .916, 8e-3 .876 (TrashNet,
# six runs, 2026-11-23); with updates of 64, two passes: 5.6e-3 instead of 4e-3 lost 3 and 5 points on small data, after
# five it won one set of three (2026-11-25).
SUFFIX_RATE = 4.0
# Few images bear less. 1e-3, 2e-3, 4e-3 on held-out photos: four data sets, 100 images, 30 passes: .775, .775, .761;
# houses, 342 images, 10 passes: .575, .587, .556; TrashNet and digits, 500, 12 passes: .894, .903, .917 (2026-11-25).
FEW_SUFFIX_RATE = 2.0
FEW_ROWS = 400  # assumption: between the last two


def suffix_learning_rate(recipe: Recipe, batch: int, rows: int) -> Decision[float]:
    """Of the cached rung: the last blocks alone, in a short run."""
    if recipe.train.learning_rate != "auto":
        return learning_rate(recipe, batch)
    planned = learning_rate(recipe, max(batch, 64))
    times = FEW_SUFFIX_RATE if rows < FEW_ROWS else SUFFIX_RATE
    why = f"short runs on the last blocks bear and need it, with fewer than {FEW_ROWS} rows half of it"
    return Decision(float(f"{times * planned.value:.3g}"), f"{times:g} × {planned.value:g}: {why}")


def _base(recipe: Recipe) -> tuple[str, float]:
    """The optimizer's family, and its rate at 64 images an update."""
    family = {"adam": "adamw", "adamw_8bit": "adamw"}.get(recipe.train.optimizer, recipe.train.optimizer)
    return family, BASE_RATES[family][recipe.adapter.kind]
