"""A loss or gradient that is not finite: which rows did it, and what to tell the person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_finetune.errors import TrainingError
from hf_finetune.training.objective import Batch, ModelBatch
from hf_finetune.training.pieces import cut


@torch.no_grad()
def rows_with_non_finite_loss(
    loss_of: Callable[[ModelBatch, Tensor], Tensor],
    prepare: Callable[[Batch], ModelBatch],
    inputs: Batch,
    normaliser: Tensor,
) -> list[int]:
    """Numbers of the rows whose own loss is not finite. `loss_of(prepared, normaliser)`: of a model in eval mode."""
    return [
        int(piece["rows"][0])
        for piece in cut(inputs, 1)
        if not bool(torch.isfinite(loss_of(prepare(piece), normaliser)))
    ]


def not_finite(
    step: int, culprits: Sequence[int], rows: Sequence[int], name_rows: Callable[[Sequence[int]], list[str]]
) -> TrainingError:
    """The error of the update `step` over `rows`, of which the `culprits` (perhaps none) are not finite themselves."""
    named = name_rows(culprits or rows)
    shown = ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
    what = "rows whose loss is not finite" if culprits else "rows of that update (each alone is finite)"
    return TrainingError(
        f"The loss or its gradient is not finite at step {step}; {what}: {shown}.",
        "Lower train.learning_rate, set train.precision to fp32, or look at those images; this step is not kept.",
    )
