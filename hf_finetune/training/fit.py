"""Fits a model to the training rows under a plan. The one training loop of the product: the HF Trainer's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, TrainerCallback

from hf_finetune.errors import TrainingError
from hf_finetune.labels import Answers
from hf_finetune.machine import interruption
from hf_finetune.machine.ranks import any_rank, is_distributed
from hf_finetune.training.arguments import training_arguments
from hf_finetune.training.averaging import AveragedWeights, may_average
from hf_finetune.training.best import Gains, KeepBest, Reduce, Score, TellBest
from hf_finetune.training.best_checkpoint import BestCheckpoint
from hf_finetune.training.callbacks import EpochToDataset, MetricsFile, ProgressBar, SealCheckpoints, ToTrackers
from hf_finetune.training.config import Train
from hf_finetune.training.cuda_graph.captured import may_capture
from hf_finetune.training.cuda_graph.module_walks import listed_weights
from hf_finetune.training.objective import Objective
from hf_finetune.training.optimizers import optimizer_of
from hf_finetune.training.order import BatchRows, DrawnUpdates, as_batch
from hf_finetune.training.pace import KeepPace, Pace
from hf_finetune.training.trainer import UpdateTrainer
from hf_finetune.types import Plan


@dataclass(frozen=True)
class Fit:
    """What training did. The model holds the best weights; `metrics` and `answers` are their validation's. It ended
    after `waited` evaluations without a gain, if that is why (0: it had its time or its steps)."""

    step: int
    best_step: int
    seconds: float
    micro_batch: int
    replays: int
    log: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]
    answers: Answers
    evaluations: int
    waited: int = 0


@dataclass(frozen=True)
class FitFolders:
    """Where training writes, and the checkpoint to resume from. `seal(checkpoint, best)` marks a new one as whole and
    removes what is neither of the two; `is_sound(checkpoint)`: whether one is as it was then. `log` is given, beside
    the file of metrics, the updates taken and what is known then."""

    checkpoints: Path
    metrics: Path
    seal: Callable[[Path, Path | None], None]
    is_sound: Callable[[Path], bool]
    resume: Path | None
    log: Callable[[int, Mapping[str, Any]], None] | None = None


@dataclass(frozen=True)
class Trainable:
    """A model as it trains: `frozen_norms` stay in eval mode; `autocast` False: it casts by itself."""

    model: PreTrainedModel | nn.Module
    frozen_norms: Sequence[nn.Module]
    autocast: bool


@dataclass(frozen=True)
class FitRows:
    """The rows of a fit; `names` gives those of training rows by number, for messages. `classes`: those of the training
    rows int64 [N], where an epoch takes as many of each (None: every row once)."""

    train: BatchRows
    validation: Any
    names: Callable[[Sequence[int]], list[str]]
    classes: np.ndarray | None = None


@dataclass(frozen=True)
class Judge:
    """How validation is scored: `reduce(logits float32 [B, C], labels int64 [B])` gives a batch's answers,
    `score(answers, labels)` the metrics of all, `gains(answers, than, labels)` how much better each is answered."""

    reduce: Reduce
    score: Score
    gains: Gains


@dataclass(frozen=True)
class ByClock:
    """A fit that keeps to a pace. The best weights are kept in memory, by `take` and `restore`, and not as checkpoints.
    `told` hears of each that is the best so far, before the fit is over."""

    pace: Pace
    take: Callable[[], Mapping[str, torch.Tensor]]
    restore: Callable[[Mapping[str, torch.Tensor]], None]
    told: Callable[[Fit, Mapping[str, torch.Tensor]], object] = lambda fit, state: None  # noqa: ARG005


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the model holds the best weights that were evaluated, `fit` what they scored."""

    def __init__(self, fit: Fit) -> None:
        super().__init__("interrupted")
        self.fit = fit


def fit(
    trainable: Trainable,
    train: Train,
    plan: Plan,
    objective: Objective,
    rows: FitRows,
    judge: Judge,
    folders: FitFolders,
    *,
    learning_rate: float,
    by_clock: ByClock | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fit:
    """Train; afterwards the model holds the weights that were best on validation.

    `by_clock` keeps to its pace and writes no checkpoints; without it the plan's steps are taken, and a run can be
    resumed. `callbacks` are called beside the product's own. Raises TrainingError on a non-finite loss, MachineError
    where not even one image fits, Interrupted on Ctrl-C once there is something to keep.
    """
    started = time.monotonic()
    pace = by_clock.pace if by_clock else None
    watch = _Watch.of(trainable, train, plan, rows, judge, folders, by_clock)
    trainer = UpdateTrainer(
        objective=objective,
        micro_batch=plan.micro_batch.value,
        eval_batch=plan.eval_batch.value,
        frozen_norms=trainable.frozen_norms,
        name_rows=rows.names,
        cuda_graphs=may_capture(train, plan),
        averaged=watch.averaged,
        best_checkpoint=watch.on_disk,
        model=trainable.model,
        args=training_arguments(train, plan, folders.checkpoints, pace, autocast=trainable.autocast),
        train_dataset=watch.dataset,
        eval_dataset=rows.validation,
        data_collator=as_batch,
        compute_metrics=watch.best.compute_metrics,
        preprocess_logits_for_metrics=watch.best.reduce,
        callbacks=[*watch.callbacks(train, folders, pace), *callbacks],
        optimizer_cls_and_kwargs=optimizer_of(train, learning_rate, plan.device.value, plan.precision.value),
    )
    if by_clock is not None:
        _follow_clock(trainer, train, by_clock, watch, started)
    with closing(watch.bar), listed_weights(trainable.model), interruption.held(is_distributed()):
        return _train(trainer, watch.best, by_clock, folders.resume, started)


@dataclass(frozen=True)
class _Watch:
    """What looks on while a fit trains. `averaged`: the average of its weights, where that is what is evaluated."""

    dataset: DrawnUpdates
    best: KeepBest
    bar: ProgressBar
    on_disk: BestCheckpoint
    averaged: AveragedWeights | None

    @classmethod
    def of(
        cls,
        trainable: Trainable,
        train: Train,
        plan: Plan,
        rows: FitRows,
        judge: Judge,
        folders: FitFolders,
        by_clock: ByClock | None,
    ) -> _Watch:
        """Of a fit that is to begin."""
        pace, take = (None, None) if by_clock is None else (by_clock.pace, by_clock.take)
        return cls(
            DrawnUpdates(rows.train, plan.effective_batch.value, train.seed, rows.classes),
            KeepBest(judge.reduce, judge.score, train.best_by, judge.gains, take),
            ProgressBar(train.best_by, pace),
            BestCheckpoint(folders.is_sound, folders.resume),
            _averaged(trainable, train, pace),
        )

    def callbacks(self, train: Train, folders: FitFolders, pace: Pace | None) -> list[TrainerCallback]:
        """In the order in which the Trainer calls them."""
        callbacks: list[TrainerCallback] = [
            *([self.averaged] if self.averaged else []),
            EpochToDataset(self.dataset.set_epoch),
            MetricsFile(folders.metrics),
            SealCheckpoints(folders.seal),
            self.best,
        ]
        if folders.log is not None:
            callbacks.append(ToTrackers(folders.log))
        if pace is not None:
            callbacks.append(KeepPace(pace, lambda: self.best.waited))
        elif train.early_stopping:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=train.early_stopping))
        return [*callbacks, self.bar, self.on_disk]


def _averaged(trainable: Trainable, train: Train, pace: Pace | None) -> AveragedWeights | None:
    if pace is None or train.schedule != "auto" or not may_average(trainable.model, trainable.frozen_norms):
        return None
    return AveragedWeights(trainable.model)


def _follow_clock(trainer: UpdateTrainer, train: Train, by_clock: ByClock, watch: _Watch, started: float) -> None:
    """Tell of each best state as it comes, and let the learning rate follow the pace."""

    def told(state: Mapping[str, torch.Tensor]) -> None:
        by_clock.told(_fit_of(trainer, watch.best, started), state)

    trainer.add_callback(TellBest(watch.best, told))
    optimizer = trainer.create_optimizer()
    schedule = "cosine" if train.schedule == "auto" and watch.averaged is None else train.schedule
    trainer.lr_scheduler = by_clock.pace.scheduler(optimizer, schedule, train.warmup_share)


def _train(
    trainer: UpdateTrainer, best: KeepBest, by_clock: ByClock | None, resume: Path | None, started: float
) -> Fit:
    """Run the trainer to its end, or to Ctrl-C; the model then holds the best weights. Raises Interrupted."""
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except KeyboardInterrupt:
        if best.step is None or (by_clock is None and trainer.state.best_model_checkpoint is None):
            raise
        if by_clock is None:
            trainer._load_best_model()
            if trainer.state.best_global_step != best.step:
                # Resumed, or interrupted between an evaluation and its checkpoint: these weights' answers are others.
                _answer_again(trainer, best)
                best.step = trainer.state.best_global_step
    else:
        if best.step is None or (by_clock is None and best.step != trainer.state.best_global_step):
            # Resumed after its best evaluation: the weights are there, their answers are not.
            _answer_again(trainer, best)
            best.step = trainer.state.best_global_step or trainer.state.global_step
        fitted = _finished(trainer, best, by_clock, started)
        if any_rank((interruption.has_come(),), trainer.args.device)[0]:  # since the last update
            raise Interrupted(fitted)
        return fitted
    finally:
        trainer.drop_graph()
    raise Interrupted(_finished(trainer, best, by_clock, started))


def _answer_again(trainer: UpdateTrainer, best: KeepBest) -> None:
    """Evaluate the best weights, which are known to be so; no point of the curve, whose last step has other ones."""
    trainer.remove_callback(ToTrackers)
    best.step = None
    trainer.evaluate()


def _finished(trainer: UpdateTrainer, best: KeepBest, by_clock: ByClock | None, started: float) -> Fit:
    if by_clock is not None and best.state is not None:
        by_clock.restore(best.state)
    fit = _fit_of(trainer, best, started)
    levelled_off = by_clock is not None and 0 < by_clock.pace.patience <= best.waited
    return replace(fit, waited=best.waited) if levelled_off else fit


def _fit_of(trainer: UpdateTrainer, best: KeepBest, started: float) -> Fit:
    if best.answers is None or best.step is None:
        raise TrainingError("Training ended without an evaluation.")
    return Fit(
        step=trainer.state.global_step,
        best_step=best.step,
        seconds=time.monotonic() - started,
        micro_batch=trainer.micro_batch,
        replays=trainer.replays,
        log=tuple(trainer.state.log_history),
        metrics=best.metrics,
        answers=best.answers,
        evaluations=best.count,
    )
