"""Plan → TrainingArguments: the one place where the Trainer's options are set."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import TrainingArguments

from hf_finetune.machine.ranks import world_size
from hf_finetune.training.best import LESS_IS_BETTER
from hf_finetune.training.config import Train
from hf_finetune.training.pace import Pace
from hf_finetune.types import Plan

SCHEDULES = {"auto": "cosine", "cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def training_arguments(
    train: Train, plan: Plan, folder: Path, pace: Pace | None = None, *, autocast: bool = True
) -> TrainingArguments:
    """The Trainer's arguments for this plan; checkpoints go to `folder`, none where a `pace` is kept.

    The Trainer's batch is this process's whole share of an update (see trainer.py), hence no accumulation here.
    """
    steps = plan.steps.value if pace is None else pace.steps
    every = "steps" if pace is None else "no"
    interval = max(1, math.ceil(steps / train.evaluations))
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=plan.device.value == "cpu",
        bf16=autocast and plan.precision.value == "bf16",
        fp16=plan.precision.value == "fp16",
        per_device_train_batch_size=plan.effective_batch.value // world_size(),
        per_device_eval_batch_size=plan.eval_batch.value,
        max_steps=steps,
        learning_rate=plan.learning_rate.value,
        weight_decay=train.weight_decay,
        lr_scheduler_type=SCHEDULES[train.schedule],
        warmup_steps=plan.warmup_steps.value,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        train_sampling_strategy="sequential",  # the dataset shuffles itself, see order.py
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=0,  # a batch is one gather from the store; a worker would only copy it once more
        dataloader_pin_memory=False,
        average_tokens_across_devices=False,  # the objective sums its own weights over the processes
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
        eval_strategy=every,
        eval_steps=interval,
        save_strategy=every,
        save_steps=interval,
        save_total_limit=None,  # callbacks.py removes old ones once the new one is sealed
        load_best_model_at_end=pace is None,
        metric_for_best_model=f"eval_{train.best_by}",
        greater_is_better=train.best_by not in LESS_IS_BETTER,
        logging_strategy="steps",
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,  # it would hide a NaN loss; trainer.py stops instead
        disable_tqdm=True,  # the product has its own bar
        report_to="none",
    )
    # With several GPUs and one process the Trainer would wrap the model in DataParallel and change the batch.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
