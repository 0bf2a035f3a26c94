"""The `full` rung of one climb. suffix.py's counterpart: owns where patches are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from hf_finetune.data.dataset import EvalRows
from hf_finetune.ladder.full import objective_and_rows
from hf_finetune.ladder.patches import Patches
from hf_finetune.ladder.trained import TrainedRung
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared


class Whole(TrainedRung):
    """All of `model`, on augmented images of `rows`."""

    def __init__(self, model: nn.Module, ready: Prepared, rows: Mapping[Split, PixelRows], patches: Patches) -> None:
        super().__init__(model, ready, ready.plan, rows, EvalRows(rows["validation"]))
        self._patches = patches

    @contextmanager
    def _training(self, keep: float) -> Iterator[tuple[Objective, BatchRows]]:
        ready = self._ready
        with self._patches.left_out(keep) as dropper:
            yield objective_and_rows(
                ready.recipe, ready.plan, ready.facts.preprocess, ready.index.labels, self._rows["train"], dropper
            )
