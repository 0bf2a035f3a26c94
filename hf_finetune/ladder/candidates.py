"""Which candidate wins: the best on validation, in the order in which the rungs make them. Keeps its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from hf_finetune.adapters.trained import restore_state, trained_state
from hf_finetune.machine.peak import PeakMemory, device_peak_bytes
from hf_finetune.training.best import is_better
from hf_finetune.training.fit import Fit
from hf_finetune.types import Answers, Candidate
from hf_finetune.units import format_seconds

logger = logging.getLogger(__name__)


@dataclass
class Climbed:
    """Where the climb ended: the model holds the best rung's weights; `answers` are its own to validation's rows."""

    candidates: list[Candidate] = field(default_factory=list)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    answers: Answers | None = None
    fit: Fit | None = None
    interrupted: bool = False

    @property
    def best(self) -> Candidate:
        """The rung that was kept last."""
        return [candidate for candidate in self.candidates if candidate.kept][-1]

    @property
    def best_answers(self) -> Answers:
        """Its answers to validation's rows."""
        if self.answers is None:
            raise ValueError("no rung was kept")
        return self.answers


class Chooser:
    """Notes every candidate of one climb. `by` is the metric that chooses; `spent` gives the run's seconds so far."""

    def __init__(self, model: nn.Module, by: str, device: str, peak: PeakMemory, spent: Callable[[], float]) -> None:
        self._model, self._by, self._device, self._peak, self._spent = model, by, device, peak, spent
        self._state: Mapping[str, torch.Tensor] | None = None
        self.climbed = Climbed()

    def keep(self, candidate: Candidate, metrics: Mapping[str, Any], answers: Answers) -> None:
        """Note the candidate that the model holds now, and keep its weights if it is the best so far."""
        so_far = self.climbed
        better = not so_far.candidates or is_better(metrics, so_far.metrics, self._by)
        peak = device_peak_bytes(self._device) or self._peak.anonymous_bytes
        so_far.candidates.append(replace(candidate, kept=better, peak_bytes=peak, at_s=self._spent()))
        if better:
            so_far.metrics, so_far.answers = metrics, answers
            self._state = trained_state(self._model)
        took = f"in {format_seconds(candidate.seconds)}" + ("" if better else ", not better: dropped")
        note = f" ({candidate.note})" if candidate.note else ""
        logger.info("%-6s %.3f validation %s %s%s", candidate.rung, metrics[self._by], self._by, took, note)

    def restore(self) -> None:
        """Give the model the best weights so far; nothing where there is no candidate yet."""
        if self._state is not None:
            restore_state(self._model, self._state)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are single numbers."""
    return {key: value for key, value in metrics.items() if isinstance(value, int | float)}
