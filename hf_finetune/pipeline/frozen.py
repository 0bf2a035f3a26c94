"""One pass over the frozen backbone for all rows of an index, with nothing trained after it: for `rank` and folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hf_finetune.pipeline.images import features_place, open_probe_rows
from hf_finetune.pipeline.model import build_with_head, describe
from hf_finetune.plan.context import RunContext
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.ladder.probe.feature_pass import PassResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frozen:
    """The model as it starts, the training rows as it sees them, and what the pass gave; `context` has the head."""

    context: RunContext
    model: nn.Module
    rows: PixelRows
    passed: PassResult


def pass_over_train(context: RunContext, rows: PixelRows | None = None) -> Frozen:
    """The features of all training rows, or `rows` where those are open already, computed or found in the cache."""
    rows = open_probe_rows(context) if rows is None else rows
    if rows is None:
        raise ValueError("the plan has a probe")
    return pass_over(context, {"train": rows})


def pass_over(context: RunContext, rows: Mapping[Split, PixelRows]) -> Frozen:
    """The features of all rows of some splits, train among them, computed or found in the cache."""
    from hf_finetune.ladder.probe.engine_ahead import engine_ahead
    from hf_finetune.ladder.probe.feature_pass import extract_features

    model, head = build_with_head(context)
    context = replace(context, head=head)
    place = features_place(context, describe(context))
    passed = extract_features(
        model,
        context,
        rows,
        place,
        None,
        announce=lambda image_s, count: logger.debug("%.1f ms an image, %d images", 1000 * image_s, count),
        offer=engine_ahead(model, context, place, tuple(rows)),
    )
    return Frozen(context, model, rows["train"], passed)
