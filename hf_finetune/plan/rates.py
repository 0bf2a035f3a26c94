"""Learning rates where the recipe says `auto`: a base rate by adapter and optimizer, scaled with the batch. Pure."""

from __future__ import annotations

import math

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.training.optimizers import OPTIMIZERS
from hf_finetune.types import BackboneFacts, Decision

SOURCES = {
    "sqrt": "× √(batch/64), Malladi et al. 2022",
    "linear": "× batch/64, Goyal et al. 2017",
}


def learning_rate(recipe: Recipe, batch: int) -> Decision[float]:
    """Of training at every depth, with `batch` images an update."""
    if recipe.train.learning_rate != "auto":
        return Decision(recipe.train.learning_rate, "as the recipe says")
    optimizer = OPTIMIZERS[recipe.train.optimizer]
    base, ratio = recipe.adapter.base_rates[optimizer.family], batch / 64
    rate = base * (ratio if optimizer.scaling == "linear" else math.sqrt(ratio))
    why = f"{base:g} for {recipe.adapter.kind} with {optimizer.family} {SOURCES[optimizer.scaling]}"
    return Decision(float(f"{rate:.3g}"), why)


# Times the base rate, at any batch up to 64. On held-out photos (last 6 of 12 blocks of ViT-Tiny; docs/experiments.md,
# "Depth, patches and rate of the cached rung"), updates of 32, 110 in all: 2e-3 .902, 4e-3 .916, 8e-3 .876 (TrashNet,
# six runs, 2026-11-23); with updates of 64, two passes: 5.6e-3 instead of 4e-3 lost 3 and 5 points on small data, after
# five it won one set of three (2026-11-25).
SUFFIX_RATE = 4.0
# Few images bear less. 1e-3, 2e-3, 4e-3 on held-out photos: four data sets, 100 images, 30 passes: .775, .775, .761;
# houses, 342 images, 10 passes: .575, .587, .556; TrashNet and digits, 500, 12 passes: .894, .903, .917 (2026-11-25).
FEW_SUFFIX_RATE = 2.0
# Half of them under a constant rate, of averaged weights (docs/experiments.md, "Averaged weights under a constant
# rate").
AVERAGED = 0.5
FEW_ROWS = 400  # assumption: between the last two


def averages_weights(recipe: Recipe, facts: BackboneFacts) -> bool:
    """Whether a rung that goes by the clock will be the average of its weights (`training.averaging.may_average`, as
    far as it is known before the model is there)."""
    return recipe.train.schedule == "auto" and not (recipe.adapter.whole and facts.batch_norms)


def suffix_learning_rate(recipe: Recipe, facts: BackboneFacts, batch: int, rows: int) -> Decision[float]:
    """Of the cached rung: the last blocks alone, in a short run."""
    if recipe.train.learning_rate != "auto":
        return learning_rate(recipe, batch)
    planned = learning_rate(recipe, max(batch, 64))
    times = FEW_SUFFIX_RATE if rows < FEW_ROWS else SUFFIX_RATE
    why = f"short runs on the last blocks bear and need it, with fewer than {FEW_ROWS} rows half of it"
    if averages_weights(recipe, facts):
        times, why = AVERAGED * times, f"{why}; half of that where weights are averaged"
    return Decision(float(f"{times * planned.value:.3g}"), f"{times:g} × {planned.value:g}: {why}")
