"""What happens beside the training loop: epochs reach the dataset, metrics the disk, checkpoints their seal, and the
person a progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.report.progress import Progress
from hf_finetune.training.pace import Pace


class EpochToDataset(TrainerCallback):
    """Tells the dataset which epoch begins, whatever the data loader is wrapped in."""

    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self._set_epoch = set_epoch

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._set_epoch(int((state.epoch or 0) + 1e-6))  # a sum of fractions at the end of an epoch


class MetricsFile(TrainerCallback):
    """Appends every log to metrics.jsonl, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        line = {"step": state.global_step, "seconds": round(time.monotonic() - self._started, 3), **logs}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class ToTrackers(TrainerCallback):
    """Hands every log on, under the names that transformers' own integrations give: train/loss, eval/accuracy."""

    def __init__(self, log: Callable[[int, Mapping[str, Any]], None]) -> None:
        self._log = log

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:  # the last sums up the rung
            return
        from transformers.integrations.integration_utils import rewrite_logs

        self._log(state.global_step, rewrite_logs(logs))


class SealCheckpoints(TrainerCallback):
    """Seals each checkpoint once the Trainer has written it: `seal(checkpoint, the best one)`."""

    def __init__(self, seal: Callable[[Path, Path | None], None]) -> None:
        self._seal = seal

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            best = state.best_model_checkpoint
            self._seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", Path(best) if best else None)


class ProgressBar(TrainerCallback):
    """One bar with the time left, the loss and the last validation score. On rank 0 only.

    Where a `pace` goes by the clock its steps are only a bound, and the bar's total follows what is expected.
    """

    def __init__(self, best_by: str, pace: Pace | None = None) -> None:
        self._best_by, self._pace = best_by, pace
        self._bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            bar = Progress("training", "update", state.max_steps, done=state.global_step, says_end=False)
            self._bar = bar.open()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._bar is not None:
            expected = None if self._pace is None else self._pace.expected(state.global_step)
            self._bar.to(state.global_step, expected)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if self._bar is None or not logs:
            return
        if "loss" in logs:
            self._bar.show(loss=f"{logs['loss']:.3f}")
        if f"eval_{self._best_by}" in logs:
            self._bar.show(**{f"val_{self._best_by}": f"{logs[f'eval_{self._best_by}']:.3f}"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; the Trainer does not say so where training is interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
