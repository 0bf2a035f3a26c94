"""Which candidate wins: the best on validation, in the order in which the rungs make them. Keeps its weights."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_finetune.adapters.trained import restore_state, trained_state
from hf_finetune.labels import Answers
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import LeftOut
from hf_finetune.machine.peak import PeakMemory, device_peak_bytes
from hf_finetune.training.best import Choice, Told, is_better, is_more_than_luck
from hf_finetune.training.fit import Fit
from hf_finetune.types import Candidate, Split
from hf_finetune.units import format_seconds

logger = logging.getLogger(__name__)
LINE = 80  # columns
START = "start"  # the candidate that no rung made
Gains = Callable[[Answers, Answers], np.ndarray]
# What the note of a rung ends with where the metric alone would say something else.
BY_CHANCE = "better than the start by no more than chance"
LESS_LOST, MORE_LOST = "accuracy apart by chance, less lost", "accuracy apart by chance, more lost"


@dataclass(frozen=True)
class Climbed:
    """Where the climb ended: the model holds the best rung's weights; `answers` are its own to validation's rows.

    `fit` is the last training's, None where no rung trained. `engine`: what ran the probe's pass (`Choice.figures`),
    where there was a choice. `left_out`: what the best head says of training rows that it was not fitted on, where
    that is known; `frozen`: what a closed-form head on the frozen backbone says so, whatever is best. `features`: what
    the best head is given of this process's rows, where the probe's pass shows that; `all_features` the same of every
    process's, in rank order, and `made_by` the identity of the engine that made them. `refitted`: the head that the
    model holds was fitted on validation rows, too. `suffix_features(split, rows)`: what the head is given of rows whose
    states at the cut were kept, where nothing below the cut is other than it was in the pass.
    """

    candidates: tuple[Candidate, ...]
    answers: Answers
    fit: Fit | None
    interrupted: bool
    engine: Mapping[str, Any] = field(default_factory=dict)
    left_out: LeftOut | None = None
    features: Mapping[Split, SplitFeatures] = field(default_factory=dict)
    frozen: LeftOut | None = None
    all_features: Mapping[Split, Sequence[SplitFeatures]] = field(default_factory=dict)
    made_by: str = ""
    refitted: bool = False
    suffix_features: Callable[[Split, np.ndarray], np.ndarray] | None = None

    @property
    def best(self) -> Candidate:
        """The rung that was kept last."""
        return [candidate for candidate in self.candidates if candidate.kept][-1]


@dataclass(frozen=True)
class Usage:
    """What a run has used so far: `spent()` seconds, and the memory that `peak` samples."""

    spent: Callable[[], float]
    peak: PeakMemory


class Candidates:
    """Every candidate of one climb, in order, and the weights of the best one. `by` is the metric that chooses;
    `gains(answers, than)` says how much better each row of validation is answered; `told` hears of each.

    What the model says as it starts, which it learnt elsewhere, stays unless a rung is better by more than luck.
    """

    def __init__(
        self,
        model: nn.Module,
        by: str,
        device: str,
        usage: Usage,
        gains: Gains,
        told: Callable[[Candidate], None] | None = None,
    ) -> None:
        self._model, self._by, self._device, self._usage = model, by, device, usage
        self._gains, self._told = gains, told
        self._all: list[Candidate] = []
        self._metrics: Mapping[str, Any] = {}
        self._answers: Answers | None = None
        self._state: Mapping[str, torch.Tensor] | None = None
        self._left_out: LeftOut | None = None
        self._finish: Callable[[], object] | None = None
        self._fit: Fit | None = None
        self._choice = Choice(by)

    def __len__(self) -> int:
        return len(self._all)

    def offer(
        self,
        rung: str,
        metrics: Mapping[str, Any],
        answers: Answers,
        seconds: float,
        *,
        forecast_s: float | None = None,
        note: str = "",
        fit: Fit | None = None,
        images: int = 0,
        left_out: LeftOut | None = None,
        finish: Callable[[], object] | None = None,
    ) -> None:
        """Note what `rung` left in the model, and copy its weights if it is the best so far; `seconds` it took.

        `finish` is done to the model with these weights where they are the result, and not where a rung starts from
        them: the final head knows the validation rows.
        """
        better, said = self._judged(Told(metrics, answers))
        note = "; ".join(each for each in (note, said) if each)
        self._all.append(
            Candidate(
                rung=rung,
                validation={key: value for key, value in metrics.items() if isinstance(value, int | float)},
                seconds=seconds,
                peak_bytes=device_peak_bytes(self._device) or self._usage.peak.anonymous_bytes,
                step=fit.best_step if fit else 0,
                kept=better,
                forecast_s=forecast_s,
                note=note,
                at_s=self._usage.spent(),
                images=images,
                by_chance=bool(said),
            )
        )
        if self._told is not None:
            self._told(self._all[-1])
        self._fit = fit or self._fit
        if better:
            self._metrics, self._answers, self._left_out, self._finish = metrics, answers, left_out, finish
            self._state = trained_state(self._model)
        dropped = ", not clearly better: dropped" if said else ", not better: dropped"
        took = f"in {format_seconds(seconds)}" + ("" if better else dropped)
        logger.info("%s", _line(f"{rung:<6} {metrics[self._by]:.3f} validation {self._by} {took}", note))

    def _judged(self, told: Told) -> tuple[bool, str]:
        """Whether that is better than the best so far, and what is to be said of it where the metric does not say so.

        Than the start it must be so by more than luck.
        """
        if self._answers is None:
            return True, ""
        best = Told(self._metrics, self._answers)
        higher = is_better(told.metrics, best.metrics, self._by, ties=False)
        better = self._choice.prefers(told, best, self._gains)
        kept = [candidate.rung for candidate in self._all if candidate.kept]
        if better and kept[-1] == START and not is_more_than_luck(self._gains(told.answers, best.answers)):
            return False, BY_CHANCE
        if better == higher or told.metrics[self._by] == best.metrics[self._by]:
            return better, ""
        return better, LESS_LOST if better else MORE_LOST

    @property
    def newest_best(self) -> Mapping[str, torch.Tensor] | None:
        """The weights of the last candidate; None where it is not the best."""
        return self._state if self._all and self._all[-1].kept else None

    def are_below(self, metrics: Mapping[str, Any]) -> bool:
        """Whether a score is better than the best so far."""
        return self._answers is None or is_better(metrics, self._metrics, self._by)

    def save(self, by: Callable[[Climbed], bool]) -> None:
        """Save what the last candidate left in the model where it is the best; `by` says whether it did."""
        if self._all and self._all[-1].kept and by(self.settled(interrupted=False)):
            self._all[-1] = replace(self._all[-1], saved_at_s=self._usage.spent())

    def restore(self) -> None:
        """Give the model the best weights so far; nothing where there is no candidate yet."""
        if self._state is not None:
            restore_state(self._model, self._state)

    def settled(self, *, interrupted: bool) -> Climbed:
        """The end of the climb, its best weights in the model. Raises ValueError where no candidate was offered."""
        if self._answers is None:
            raise ValueError("no rung was kept")
        self.restore()
        if self._finish is not None:
            self._finish()
        refitted = self._finish is not None
        return Climbed(
            tuple(self._all), self._answers, self._fit, interrupted, left_out=self._left_out, refitted=refitted
        )


def _line(text: str, note: str) -> str:
    """With the note behind it, or below it where the line would be a long one."""
    if not note or len(text) + len(note) + 3 <= LINE:
        return f"{text} ({note})" if note else text
    return "\n".join([text, *textwrap.wrap(note, LINE, initial_indent="       ", subsequent_indent="       ")])
