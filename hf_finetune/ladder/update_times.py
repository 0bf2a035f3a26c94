"""What an update of each trained rung takes on this machine, measured when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hf_finetune import processes
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.ladder.calibrate import seconds_per_update
from hf_finetune.ladder.full import objective_and_rows
from hf_finetune.ladder.patches import Patches
from hf_finetune.ladder.rung import training_forms
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows
from hf_finetune.types import PixelRows

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class UpdateTimes:
    """Seconds of an update with the effective batch; the slowest process's."""

    def __init__(self, model: nn.Module, ready: Prepared, rows: PixelRows, patches: Patches) -> None:
        self._model, self._ready, self._rows, self._patches = model, ready, rows, patches
        self._full: dict[float, float] = {}

    def of(self, objective: Objective, rows: BatchRows) -> float:
        """Of this loss on these rows."""
        plan = self._ready.plan
        with training_forms(self._model, plan) as autocast:
            seconds = seconds_per_update(
                self._model,
                objective,
                rows,
                micro_batch=plan.micro_batch.value,
                batch=plan.effective_batch.value // self._ready.machine.world_size,
                frozen_norms=frozen_norms(self._model),
                autocast=AUTOCAST.get(plan.precision.value) if autocast else None,
            )
        return processes.agree(seconds)

    def full(self, keep: float) -> float:
        """Of the full rung with this share of patches; measured once for each."""
        if keep not in self._full:
            self._full[keep] = self._measure_full(keep)
        return self._full[keep]

    def _measure_full(self, keep: float) -> float:
        ready, dropper = self._ready, self._patches.dropper(keep)
        objective, rows = objective_and_rows(
            ready.recipe, ready.plan, ready.facts.preprocess, ready.index.labels, self._rows, dropper
        )
        if dropper is None:
            return self.of(objective, rows)
        with dropper.before(self._patches.first_block()):
            return self.of(objective, rows)
