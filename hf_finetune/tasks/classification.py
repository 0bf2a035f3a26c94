"""Single-label image classification: the recipe's `task` section and its class weights.

Its loss is in `loss.py`, its metrics in `scoring.py`; both are imported by who needs them, this module stays light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from hf_finetune.errors import DataError
from hf_finetune.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.types import Labels, PixelRows

_LARGEST_BOOST = 10.0


class Classification(Section):
    """One label per image."""

    kind: Literal["classification"] = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weights: Literal["none", "auto"] | tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default="none",
        description="none, auto (inverse class frequency, mean 1), or one weight per class in label order",
    )

    def weights_for(self, label_counts: Sequence[int]) -> list[float] | None:
        """One weight per class, from the number of training rows of each; None where classes count alike.

        Only ratios matter, since the loss divides by the weights of its rows.
        Raises DataError where the recipe's list has another length than the dataset has classes.
        """
        if self.class_weights == "none":
            return None
        if self.class_weights == "auto":
            return auto_class_weights(label_counts)
        if len(self.class_weights) != len(label_counts):
            raise DataError(
                f"task.class_weights: one weight for each of the {len(label_counts)} classes is expected, "
                f"found {len(self.class_weights)}.",
                "List them in label order (sorted class names, or as the dataset numbers them), or use "
                "task.class_weights=auto.",
            )
        return list(self.class_weights)

    def row_loss(self, class_weights: Tensor | None, own: RowLoss | None = None) -> RowLoss:
        """The loss of each row; `own` takes the place of cross-entropy, and is weighted by class (float [C]) too."""
        from hf_finetune.tasks.loss import CrossEntropy, Weighted

        if own is None:
            return CrossEntropy(self.label_smoothing, class_weights)
        return own if class_weights is None else Weighted(own, class_weights)


def auto_class_weights(label_counts: Sequence[int]) -> list[float]:
    """Inverse class frequency w_c = n / (C · n_c), so that the mean over the n training rows is 1.

    This is scikit-learn's `compute_class_weight("balanced")` (after King & Zeng 2001), with a cap: a class with less
    than a tenth of the mean class size is weighted as if it had that tenth (w ≤ 10), and the weights are scaled back
    to mean 1 over rows. Assumption: beyond that, one rare row outweighs the rest of its update and the gradient is
    mostly noise; inverse frequency is known to do badly on long tails (Cui et al. 2019, arXiv 1901.05555). A class
    without rows gets the cap's weight, as the rarest does.
    Raises DataError where no class has rows.
    """
    rows, classes = sum(label_counts), len(label_counts)
    if rows == 0:
        raise DataError("task.class_weights=auto: training rows are expected, found none.", "Check data.name.")
    capped = [min(_LARGEST_BOOST, rows / (classes * count)) if count else _LARGEST_BOOST for count in label_counts]
    mean = sum(weight * count for weight, count in zip(capped, label_counts, strict=True)) / rows
    return [weight / mean for weight in capped]


def class_counts(rows: PixelRows, labels: Labels) -> list[int]:
    """How many rows each class has."""
    return np.bincount(rows.labels, minlength=len(labels.names)).tolist()
