"""The best checkpoint of a fit is read long after it was written, and is checked before that as the newest one is.

The Trainer looks at nothing but whether there is a file of weights: with a bit of it flipped it loads other weights and
ends well. Where the best checkpoint is not as it was written, the weights that are left are the best.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.machine import processes

logger = logging.getLogger(__name__)


class BestCheckpoint(TrainerCallback):
    """Whether the best checkpoint can be trusted: before a resumed fit goes on, and before its weights are loaded.

    `is_sound(checkpoint)` says so, and puts one out of the way that is not; it is asked on rank 0. `resumed`: the sound
    one that the fit goes on from.
    """

    def __init__(self, is_sound: Callable[[Path], bool], resumed: Path | None) -> None:
        self._is_sound, self._resumed = is_sound, resumed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._resumed is None or not args.load_best_model_at_end or not state.best_global_step:
            return
        # Named by its step: the folder of the run may have another path than when that was written.
        best = self._resumed.with_name(f"checkpoint-{state.best_global_step}")
        if best == self._resumed or self._agreed(best):
            state.best_model_checkpoint = str(best)
            return
        logger.warning("%s, the best so far, is lost: %s counts as the best now.", best.name, self._resumed.name)
        metric = str(args.metric_for_best_model)
        here = [line[metric] for line in state.log_history if line["step"] == state.global_step and metric in line]
        state.best_metric, state.best_global_step, state.best_model_checkpoint = None, 0, None
        if here:
            state.best_metric, state.best_global_step = here[-1], state.global_step
            state.best_model_checkpoint = str(self._resumed)

    def can_be_loaded(self, state: TrainerState) -> bool:
        """Whether the best weights are on the disk as they were written. If not, those of the model count as the best
        from here on."""
        if self._agreed(Path(str(state.best_model_checkpoint))):
            return True
        logger.warning("The best checkpoint is lost: the weights after update %d are the result.", state.global_step)
        state.best_model_checkpoint, state.best_global_step = None, state.global_step
        return False

    def _agreed(self, checkpoint: Path) -> bool:
        return processes.agree(self._is_sound(checkpoint) if processes.is_first() else False)
