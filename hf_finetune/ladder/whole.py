"""The `full` rung of one climb: what an update takes, and its training.

suffix.py's counterpart: owns what climb.py need not know of, which is where patches are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from hf_finetune.ladder.full import objective_and_rows, run_full
from hf_finetune.ladder.patches import Patches
from hf_finetune.ladder.update_times import update_seconds
from hf_finetune.training.fit import Fit, FitFolders
from hf_finetune.training.pace import Pace
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared


class Whole:
    """All of `model`, on augmented images of `rows`."""

    def __init__(self, model: nn.Module, ready: Prepared, rows: Mapping[Split, PixelRows], patches: Patches) -> None:
        self._model, self._ready, self._rows, self._patches = model, ready, rows, patches
        self._seconds: dict[float, float] = {}

    def update_s(self, keep: float) -> float:
        """Seconds of an update with this share of the patches; measured once for each."""
        if keep not in self._seconds:
            self._seconds[keep] = self._measure(keep)
        return self._seconds[keep]

    def run(self, pace: Pace | None, keep: float, folders: FitFolders) -> Fit:
        """Train; afterwards the model holds the weights that were best on validation.

        Without a pace the plan's steps hold, and a checkpoint of `folders` is gone on from.
        """
        ready = self._ready
        with self._patches.left_out(keep) as dropper:
            return run_full(
                self._model,
                ready.recipe,
                ready.plan,
                ready.facts.preprocess,
                ready.index.labels,
                train=self._rows["train"],
                validation=self._rows["validation"],
                folders=folders if pace is None else replace(folders, resume=None),
                pace=pace,
                dropper=dropper,
            )

    def _measure(self, keep: float) -> float:
        ready = self._ready
        with self._patches.left_out(keep) as dropper:
            objective, rows = objective_and_rows(
                ready.recipe, ready.plan, ready.facts.preprocess, ready.index.labels, self._rows["train"], dropper
            )
            return update_seconds(self._model, ready, objective, rows)
