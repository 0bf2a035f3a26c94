"""What a run knows before anything is decoded or loaded: handed down from the pipeline to the ladder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import Answers, BackboneFacts, Index, Machine, Plan

if TYPE_CHECKING:
    from hf_finetune.adapters.starting.start import Start


@dataclass(frozen=True)
class RunContext:
    """What is known before anything is decoded or loaded.

    `written` is the recipe as it was written, which marks the run folder; in `recipe` what `adapter.from` decides is
    filled in, and `start` is that adapter. `extensions` are what the program that runs it brings of its own.
    """

    recipe: Recipe
    index: Index
    machine: Machine
    facts: BackboneFacts
    plan: Plan
    written: Recipe
    start: Start | None
    extensions: Extensions = field(default_factory=Extensions)

    def score(self, answers: Answers, labels: np.ndarray, *, full: bool) -> dict[str, Any]:
        """The metrics of a split: its answers against its labels int64 [N]; with `full` those by class too."""
        from hf_finetune.tasks.scoring import score_answers

        names, metrics = self.index.labels.names, self.extensions.metrics
        return score_answers(answers, np.asarray(labels), names, full=full, metrics=metrics)

    @property
    def start_digest(self) -> str | None:
        """sha256 (hex) of the adapter that the run starts from."""
        return None if self.start is None else self.start.digest
