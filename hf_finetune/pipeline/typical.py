"""What the images of training are like to the best rung's model, for telling later that one is unlike them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import ModelError
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.machine import processes
from hf_finetune.plan.context import RunContext
from hf_finetune.result.typical import FeatureSums, Typical
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.ladder.candidates import Climbed
    from hf_finetune.pipeline.images import Images

logger = logging.getLogger(__name__)
# Rows that a trained model is run over for this, at most; evenly from the whole split. A covariance of some hundred
# features, shrunk, wants no more, and under a time budget these seconds are taken from the rungs.
MOST_TRAIN, MOST_HELD = 1_000, 400
# Under a time budget so many for each second of it, and at least so many: a minute's rungs lost eight seconds to it.
TRAIN_A_SECOND, HELD_A_SECOND, LEAST_TRAIN, LEAST_HELD = 8, 3, 400, 150


def rows_to_pass(images: Images, budget_s: float | None) -> tuple[int, int]:
    """Over how many training and validation rows a trained rung's model is run for this at the end of a run."""
    if images.probe_rows is None:
        return 0, 0
    train, held = MOST_TRAIN, MOST_HELD
    if budget_s is not None:
        train = min(train, max(LEAST_TRAIN, int(TRAIN_A_SECOND * budget_s)))
        held = min(held, max(LEAST_HELD, int(HELD_A_SECOND * budget_s)))
    return min(train, len(images.probe_rows)), min(held, len(images.rows["validation"]))


def typical_of(context: RunContext, climbed: Climbed, model: nn.Module, images: Images) -> Typical | None:
    """From training rows, its threshold from validation. The probe's own pass serves where that rung is the best.

    None where no rung decoded training images as the model sees them, where its head takes no vector an image, where
    validation is too small, or where a run that was interrupted would have to pass over images for it.
    """
    if images.probe_rows is None or (climbed.interrupted and not climbed.features):
        return None
    train, held = rows_to_pass(images, context.recipe.budget.time)
    splits: dict[Split, tuple[PixelRows, int]] = {
        "train": (images.probe_rows, train),
        "validation": (images.rows["validation"], held),
    }
    own = climbed.features or None
    try:
        by = climbed.suffix_features
        kept = own or {split: _passed(context, model, split, rows, most, by) for split, (rows, most) in splits.items()}
    except ModelError as error:
        logger.info("What training images are like is not kept: %s.", error.message)
        return None
    return typical_from(context, np.asarray(images.probe_rows.labels), kept["train"], kept["validation"])


def typical_from(context: RunContext, labels: np.ndarray, train: SplitFeatures, held: SplitFeatures) -> Typical | None:
    """From this process's and everybody else's features of training rows, whose split has these `labels` [N, …], with
    the threshold from `held` ones of validation; None where those are too few."""
    widths = [each for each in processes.gather(train.features.shape[1] if len(train.rows) else 0) if each]
    labels, count = _classes(context, labels)
    sums = FeatureSums(widths[0], count)
    for start in range(0, len(train.rows), 4096):
        part = slice(start, start + 4096)
        sums.add(np.asarray(train.features[part]), labels[train.rows[part]])
    every = FeatureSums.total(processes.gather(sums))
    return every.typical(processes.gather(np.asarray(held.features)))


def _classes(context: RunContext, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """The class of each row and how many there are; of other labels one for all."""
    if labels.ndim == 1:
        return labels, len(context.index.columns[0].names)
    return np.zeros(len(labels), np.int64), 1


def _passed(
    context: RunContext,
    model: nn.Module,
    split: Split,
    rows: PixelRows,
    most: int,
    suffix_features: Callable[[Split, np.ndarray], np.ndarray] | None,
) -> SplitFeatures:
    """This process's share of some rows, as the model sees them now: by the last blocks alone where that is given."""
    from hf_finetune.adapters.low_memory import answering_lora

    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    chosen = chosen[context.machine.own_rows(len(chosen))]
    if suffix_features is not None:
        return SplitFeatures(chosen, suffix_features(split, chosen), None, None)
    with answering_lora(model):
        features = features_of(context, model, rows, chosen, context.plan.eval_batch.value)
    return SplitFeatures(chosen, features, None, None)


def features_of(
    context: RunContext,
    model: nn.Module,
    rows: PixelRows,
    chosen: np.ndarray,
    batch: int,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """float32 [n, d]: what the head is given of some rows, by the torch model as it is; [0, 0] of none. Raises
    ModelError where its head takes no vector an image."""
    from hf_finetune.backbones.engines.eager import Eager
    from hf_finetune.ladder.probe.extractor import FeatureExtractor
    from hf_finetune.ladder.probe.feature_pass import watch_of
    from hf_finetune.preprocess.normalise import Normaliser

    watch = watch_of(model, context.facts.head, None)
    extractor = FeatureExtractor(Eager(model, watch), Normaliser(context.facts.preprocess), batch)
    found: list[Any] = []
    for start in range(0, len(chosen), batch):
        here = chosen[start : start + batch]
        found.append(extractor(rows.gather(here))[0].numpy())
        progress(len(here))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)
