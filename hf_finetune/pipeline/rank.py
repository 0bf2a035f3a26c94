"""`hf-finetune rank`: compares backbones on your images by what a closed-form head on their frozen features reaches.

Exact leave-one-out on up to a thousand images each: no training, no split. Owns the comparison; the pass and the head
are the ladder's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.errors import DataError, FinetuneError, RecipeError, first_line
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.types import Index, PixelRows

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.ladder.probe.feature_pass import PassResult
    from hf_finetune.plan.context import RunContext

IMAGES = 1000


@dataclass(frozen=True)
class Ranked:
    """One backbone: its score by the task's first metric `measure` (accuracy of classes), its loss, what it costs, or
    why it cannot be used.

    The figures are leave-one-out of a new head, or with `own_head` those of the backbone's own, which answers these
    labels and does better.
    """

    model: str
    measure: str
    score: float | None
    loss: float | None
    images: int
    image_ms: float
    seconds: float
    megabytes: float
    problem: str = ""
    own_head: bool = False


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
            found.append(Ranked(recipe.model.name, "", None, None, 0, 0.0, 0.0, 0.0, first_line(error)))
    return sorted(found, key=lambda each: (each.score is None, -(each.score or 0), each.loss or 0))


def _measure(recipe: Recipe, images: int) -> Ranked:
    from hf_finetune.ladder.probe.rung import fit_on
    from hf_finetune.pipeline.frozen import pass_over_train
    from hf_finetune.pipeline.prepare import prepare_run

    started = time.monotonic()
    context = prepare_run(recipe)
    frozen = pass_over_train(replace(context, index=some_of(context.index, images)))
    context, model, rows, passed = frozen.context, frozen.model, frozen.rows, frozen.passed
    left_out, measure = fit_on(context, rows, passed.own["train"]).left_out(), context.target.chosen_by[0]
    metrics = context.score(left_out.answers, left_out.labels, full=False)
    score, loss, own = metrics[measure], metrics["loss"], _own_figures(model, context, rows, passed)
    if own is not None and (-own[0], own[1]) < (-score, loss):
        score, loss = own
    else:
        own = None
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return Ranked(
        model=recipe.model.name,
        measure=measure,
        score=score,
        loss=loss,
        images=len(rows),
        image_ms=1000 * passed.image_s,
        seconds=time.monotonic() - started,
        megabytes=size / 1e6,
        own_head=own is not None,
    )


def _own_figures(
    model: nn.Module, context: RunContext, rows: PixelRows, passed: PassResult
) -> tuple[float, float] | None:
    """Accuracy and cross-entropy of the backbone's own head; None where it does not answer all of the labels."""
    from hf_finetune.ladder.probe.heads import Head
    from hf_finetune.ladder.probe.rung import own_outputs

    own, kept = own_outputs(model, context), passed.own["train"]
    if own is None or not own.which.all():
        return None
    labels = np.asarray(rows.labels)[kept.rows]
    answers = Head(own.weight, own.bias).answers(np.asarray(kept.features), labels, context.target)
    if answers is None:
        return None
    metrics = context.score(answers, labels, full=False)
    return metrics[context.target.chosen_by[0]], metrics["loss"]


def some_of(index: Index, most: int) -> Index:
    """The index with at most `most` training rows, evenly from all classes, and nothing else."""
    rows = index.splits["train"]
    by_class = sorted(range(len(rows)), key=lambda number: rows[number].label)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    kept = sorted(by_class[place] for place in chosen)
    return replace(index, splits={"train": tuple(rows[number] for number in kept)})
