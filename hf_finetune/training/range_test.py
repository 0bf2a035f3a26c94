"""The learning-rate range test (Smith 2017, arXiv 1506.01186): the rate rises with every update, the loss is noted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.training.arguments import training_arguments
from hf_finetune.training.callbacks import EpochToDataset, ProgressBar
from hf_finetune.training.config import Train
from hf_finetune.training.fit import FitRows, Trainable
from hf_finetune.training.objective import Objective
from hf_finetune.training.optimizers import optimizer_of
from hf_finetune.training.order import DrawnUpdates, as_batch
from hf_finetune.training.trainer import UpdateTrainer
from hf_finetune.types import Decision, Plan

DIVERGED = 4.0  # the sweep ends where the loss is this many times its best


class RisingRate(TrainerCallback):
    """Sets the learning rate of every update, from `low` to `high` in `steps`, and notes the loss; stops where it
    diverges."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.rates = [low * (high / low) ** (step / max(1, steps - 1)) for step in range(steps)]
        self.losses: list[float] = []

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = self.rates[min(state.global_step, len(self.rates) - 1)]

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            if self.losses[-1] > DIVERGED * min(self.losses):
                control.should_training_stop = True


def sweep(
    trainable: Trainable,
    train: Train,
    plan: Plan,
    objective: Objective,
    rows: FitRows,
    rising: RisingRate,
    folder: Path,
) -> tuple[list[float], list[float]]:
    """Learning rates and the loss of the update taken at each. Writes nothing but the Trainer's empty folder."""
    plan = replace(plan, steps=Decision(len(rising.rates), "range test"), warmup_steps=Decision(0, "range test"))
    arguments = training_arguments(train.model_copy(update={"schedule": "constant"}), plan, folder)
    arguments.eval_strategy, arguments.save_strategy = "no", "no"  # pyright: ignore[reportAttributeAccessIssue]
    arguments.load_best_model_at_end = False
    arguments.logging_steps = 1
    dataset = DrawnUpdates(rows.train, plan.effective_batch.value, train.seed, rows.classes)
    trainer = UpdateTrainer(
        objective=objective,
        micro_batch=plan.micro_batch.value,
        eval_batch=plan.eval_batch.value,
        frozen_norms=trainable.frozen_norms,
        name_rows=rows.names,
        stop_on_non_finite=False,
        model=trainable.model,
        args=arguments,
        train_dataset=dataset,
        data_collator=as_batch,
        callbacks=[EpochToDataset(dataset.set_epoch), rising, ProgressBar(train.best_by)],
        optimizer_cls_and_kwargs=optimizer_of(train, rising.rates[0], plan.device.value, plan.precision.value),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    finite = [loss for loss in rising.losses if math.isfinite(loss)]
    return rising.rates[: len(finite)], finite
