"""What an update of a trained rung takes on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hf_finetune import processes
from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.ladder.calibrate import seconds_per_update
from hf_finetune.ladder.rung import training_forms
from hf_finetune.training.captured import may_capture
from hf_finetune.training.objective import Objective
from hf_finetune.training.order import BatchRows

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def update_seconds(model: nn.Module, ready: Prepared, objective: Objective, rows: BatchRows) -> float:
    """Seconds of an update with the effective batch, of this loss on these rows; the slowest process's."""
    plan = ready.plan
    with training_forms(model, plan) as autocast:
        seconds = seconds_per_update(
            model,
            objective,
            rows,
            micro_batch=plan.micro_batch.value,
            batch=plan.effective_batch.value // ready.machine.world_size,
            frozen_norms=frozen_norms(model),
            autocast=AUTOCAST.get(plan.precision.value) if autocast else None,
            cuda_graphs=may_capture(ready.recipe.train, plan),
        )
    return max(processes.gather(seconds))
