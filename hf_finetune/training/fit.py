"""Fits a model to the training rows under a plan. The one training loop of the product: the HF Trainer's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, TrainerCallback

from hf_finetune.training.arguments import training_arguments
from hf_finetune.training.callbacks import EpochToDataset, MetricsFile, ProgressBar, SealCheckpoints
from hf_finetune.training.config import Train
from hf_finetune.training.objective import Objective
from hf_finetune.training.optimizers import optimizer_of
from hf_finetune.training.order import BatchRows, ShuffledUpdates, as_batch
from hf_finetune.training.trainer import UpdateTrainer
from hf_finetune.types import Plan


@dataclass(frozen=True)
class Fit:
    """What training did. The model holds the best weights."""

    step: int
    best_step: int
    seconds: float
    micro_batch: int
    replays: int
    log: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class FitFolders:
    """Where training writes, and the checkpoint to resume from."""

    checkpoints: Path
    metrics: Path
    seal: Callable[[Path], None]
    resume: Path | None


def fit(
    model: PreTrainedModel | nn.Module,
    train: Train,
    plan: Plan,
    objective: Objective,
    *,
    train_rows: BatchRows,
    validation_rows: Any,
    score: Callable[[np.ndarray, np.ndarray], dict[str, Any]],
    name_rows: Callable[[Sequence[int]], list[str]],
    frozen_norms: Sequence[nn.Module],
    folders: FitFolders,
) -> Fit:
    """Train; afterwards the model holds the weights that were best on validation.

    `score(logits float32 [N, C], labels int64 [N])` gives the validation metrics. Raises TrainingError on a non-finite
    loss and MachineError where not even one image fits.
    """
    started = time.monotonic()
    dataset = ShuffledUpdates(train_rows, plan.effective_batch.value, train.seed)
    callbacks: list[TrainerCallback] = [
        EpochToDataset(dataset.set_epoch),
        MetricsFile(folders.metrics),
        SealCheckpoints(folders.seal),
        ProgressBar(train.best_by),
    ]
    if train.early_stopping:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=train.early_stopping))
    trainer = UpdateTrainer(
        objective=objective,
        micro_batch=plan.micro_batch.value,
        eval_batch=plan.eval_batch.value,
        frozen_norms=frozen_norms,
        name_rows=name_rows,
        model=model,
        args=training_arguments(train, plan, folders.checkpoints),
        train_dataset=dataset,
        eval_dataset=validation_rows,
        data_collator=as_batch,
        compute_metrics=lambda prediction: score(prediction.predictions, prediction.label_ids),
        callbacks=callbacks,
        optimizer_cls_and_kwargs=optimizer_of(train, plan.learning_rate.value, plan.device.value),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(folders.resume) if folders.resume else None)
    best = trainer.state.best_global_step or trainer.state.global_step
    return Fit(
        step=trainer.state.global_step,
        best_step=best,
        seconds=time.monotonic() - started,
        micro_batch=trainer.micro_batch,
        replays=trainer.replays,
        log=tuple(trainer.state.log_history),
    )
