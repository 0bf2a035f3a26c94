"""Goes on with a run that was ended in its middle: what an earlier try had reached of a rung is a candidate again.

Without a budget of time a rung that had come to its end is not trained again; with one it is trained on from there, as
long as this try has time. Owns that rule, and what of a rung is kept for the next try.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from hf_finetune.adapters.trained import restore_state
from hf_finetune.labels import Answers
from hf_finetune.machine import processes
from hf_finetune.run.kept_rungs import KeptRung, KeptRungs
from hf_finetune.training.fit import Fit
from hf_finetune.units import format_seconds

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

logger = logging.getLogger(__name__)
TRAINED = ("cached", "full")  # in the order in which they are taken


class GoingOn:
    """The rungs of one run of `model`, judged on `labels` of validation int64 [N] or float32 [N, K]; `kept` is where
    rank 0 finds and keeps them."""

    def __init__(self, kept: KeptRungs, model: nn.Module, context: RunContext, labels: np.ndarray) -> None:
        self._kept, self._model, self._context, self._labels = kept, model, context, labels
        self._limited = context.recipe.budget.time is not None
        found = {rung: kept.find(rung) for rung in TRAINED if rung in context.plan.rungs.value}
        self._found = processes.agree({rung: each for rung, each in found.items() if each and self._can_be_used(each)})

    @property
    def has_some(self) -> bool:
        """Whether an earlier try had reached anything."""
        return bool(self._found)

    def restore(self, rung: str) -> tuple[Fit, str] | None:
        """Put what was reached of a rung into the model: what its fit was, and what is to be said of it; None where
        nothing was."""
        kept = self._found.get(rung)
        if kept is None:
            return None
        logger.info("Going on from what %s had reached in %s.", rung, format_seconds(kept.seconds))
        restore_state(self._model, kept.weights)
        answers = self._answers(kept)
        fit = Fit(
            step=kept.steps,
            best_step=kept.step,
            seconds=kept.seconds,
            micro_batch=kept.micro_batch,
            replays=0,
            log=(),
            metrics=self._context.score(answers, self._labels, full=False),
            answers=answers,
            evaluations=0,
        )
        return fit, f"reached before the interruption, in {format_seconds(kept.seconds)}"

    def is_over(self, rung: str) -> bool:
        """Whether nothing is left of a rung: it has had all its steps, or a later one began from it."""
        kept = self._found.get(rung)
        later = TRAINED[TRAINED.index(rung) + 1 :]
        return (kept is not None and not self._limited) or any(each in self._found for each in later)

    def meanwhile(self, rung: str, fit: Fit, weights: Mapping[str, Tensor]) -> None:
        """Now and then keep what a rung that goes on has reached, where the next try may train on from there."""
        if self._limited:
            self._kept.keep_meanwhile(_kept(rung, fit, weights, ended=False))

    def left(self, rung: str, fit: Fit, weights: Mapping[str, Tensor], *, ended: bool) -> None:
        """Keep what a rung has left, if that is worth writing, and the next try may use it."""
        if (ended or self._limited) and self._kept.is_worth(weights, fit.seconds):
            self._kept.keep(_kept(rung, fit, weights, ended=ended))

    def _can_be_used(self, kept: KeptRung) -> bool:
        there = dict(self._model.named_parameters()) | dict(self._model.named_buffers())
        weights = all(name in there and there[name].shape == each.shape for name, each in kept.weights.items())
        try:
            rows = len(self._answers(kept))
        except (ValueError, TypeError, IndexError):
            return False
        return weights and rows == len(self._labels) and (kept.ended or self._limited)

    def _answers(self, kept: KeptRung) -> Answers:
        """As this run's task reads them. Raises ValueError or TypeError where they are another's."""
        classes = len(self._context.index.labels.names)
        like = self._context.target.answers(np.zeros((1, classes), np.float32), self._labels[:1])
        if len(kept.answers) != len(like.arrays()):
            raise ValueError("the answers of another task")
        return like.with_arrays(kept.answers)


def _kept(rung: str, fit: Fit, weights: Mapping[str, Tensor], *, ended: bool) -> KeptRung:
    answers = fit.answers.arrays()
    return KeptRung(rung, ended, weights, answers, fit.best_step, fit.step, fit.seconds, fit.micro_batch)
