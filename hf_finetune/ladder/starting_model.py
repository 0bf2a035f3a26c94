"""The model as it starts, from the bare base or from another's adapter: its forward pass, its score before any rung."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from peft import PeftModel
from torch import nn

from hf_finetune.adapters.dora import low_rank_off
from hf_finetune.adapters.low_memory import low_memory_lora
from hf_finetune.labels import Answers
from hf_finetune.machine import processes
from hf_finetune.result.answers import predict_answers
from hf_finetune.types import PixelRows

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


def as_started(model: nn.Module, context: RunContext) -> AbstractContextManager[object]:
    """Inside, a forward pass is that of the starting point: of the bare backbone, or of the adapter that
    `adapter.from` names, in the form that is quick in bfloat16."""
    if context.start is not None:
        return as_passed(model, context)
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def as_passed(model: nn.Module, context: RunContext) -> AbstractContextManager[object]:
    """Inside, LoRA layers round as they did in the pass, so that the short cuts that stand on its results can be
    compared with the whole model. (Layers that start from zero add nothing but DoRA's rounding, and were off.)"""
    return low_rank_off(model) if context.start is None else low_memory_lora(model)


def answers_at_start(model: nn.Module, context: RunContext, rows: PixelRows) -> Answers:
    """What the untrained model says of all `rows`; the processes share the work."""
    own, found = context.machine.own_rows(len(rows)), None
    if len(own):
        with as_started(model, context):
            batch = context.plan.eval_batch.value
            seen, target = context.facts.preprocess, context.target
            found = predict_answers(model, rows, seen, target, batch=batch, indices=own.tolist())
    return processes.gather_answers(own, found)
