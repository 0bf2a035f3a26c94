"""`hf-finetune rank`: compares backbones on your images by what a closed-form head on their frozen features reaches.

Exact leave-one-out on up to a thousand images each: no training, no split. Owns the comparison; the pass and the head
are the ladder's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hf_finetune.errors import DataError, FinetuneError, RecipeError, first_line
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.types import Index

logger = logging.getLogger(__name__)
IMAGES = 1000


@dataclass(frozen=True)
class Ranked:
    """One backbone: leave-one-out accuracy and cross-entropy (nats), what it costs, or why it cannot be used."""

    model: str
    accuracy: float | None
    loss: float | None
    images: int
    image_ms: float
    seconds: float
    megabytes: float
    problem: str = ""


def rank(models: Sequence[str], data: str, *, images: int = IMAGES, overrides: Sequence[str] = ()) -> list[Ranked]:
    """The backbones, best first; those that cannot be used last. Raises RecipeError for wrong overrides."""
    recipes = [
        load_recipe(
            {
                "model": {"name": model},
                "data": {"name": data, "validation_share": 0, "test_share": 0},  # leave-one-out needs no split
                "adapter": {"kind": "head_only"},
                "ladder": ["probe"],
            },
            overrides,
        )
        for model in models
    ]
    found = []
    for recipe in recipes:
        try:
            found.append(_measure(recipe, images))
        except FinetuneError as error:
            if len(recipes) == 1 or isinstance(error, DataError | RecipeError):  # the same for every backbone
                raise
            found.append(Ranked(recipe.model.name, None, None, 0, 0.0, 0.0, 0.0, first_line(error)))
    return sorted(found, key=lambda each: (each.accuracy is None, -(each.accuracy or 0), each.loss or 0))


def _measure(recipe: Recipe, images: int) -> Ranked:
    from hf_finetune.ladder.probe.feature_cache import identity_of
    from hf_finetune.ladder.probe.feature_pass import FeaturePlace, extract_features
    from hf_finetune.ladder.probe.rung import fit_on
    from hf_finetune.pipeline.images import cache_of, open_probe_rows
    from hf_finetune.pipeline.model import build_model, describe
    from hf_finetune.pipeline.prepare import prepare_run

    started = time.monotonic()
    context = prepare_run(recipe)
    context = replace(context, index=some_of(context.index, images))
    rows = open_probe_rows(context)
    if rows is None:
        raise ValueError("the plan has a probe")
    model = build_model(context)
    passed = extract_features(
        model,
        context,
        {"train": rows},
        FeaturePlace(cache_of(context), identity_of(describe(context), context.plan, context.start_digest)),
        None,
        announce=lambda image_s, count: logger.debug("%.1f ms an image, %d images", 1000 * image_s, count),
    )
    choice = fit_on(context, rows, passed).choice
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return Ranked(
        model=recipe.model.name,
        accuracy=choice.accuracy,
        loss=choice.loss,
        images=len(rows),
        image_ms=1000 * passed.image_s,
        seconds=time.monotonic() - started,
        megabytes=size / 1e6,
    )


def some_of(index: Index, most: int) -> Index:
    """The index with at most `most` training rows, evenly from all classes, and nothing else."""
    rows = index.splits["train"]
    by_class = sorted(range(len(rows)), key=lambda number: rows[number].label)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    kept = sorted(by_class[place] for place in chosen)
    return replace(index, splits={"train": tuple(rows[number] for number in kept)})
