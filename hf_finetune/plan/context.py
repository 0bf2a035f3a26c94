"""What a run knows before anything is decoded or loaded: handed down from the pipeline to the ladder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.labels import Answers
from hf_finetune.plan.counted import Count, uncounted
from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.tasks import Target, settled
from hf_finetune.types import BackboneFacts, Index, LabelledRows, Machine, Plan, Split

if TYPE_CHECKING:
    from hf_finetune.adapters.starting.start import Start
    from hf_finetune.backbones.own_head import OwnHead


@dataclass(frozen=True)
class RunContext:
    """What is known before anything is decoded or loaded.

    `written` is the recipe as it was written, which marks the run folder; in `recipe` what `adapter.from` decides is
    filled in, and `start` is that adapter. `extensions` are what the program that runs it brings of its own. `head`:
    which labels the base's own head answers, known once the model is built. `count`: what the plan's memory was counted
    by. `on_disk`: bytes of the run's decoded images and kept features so far, by entry, for `data.store_limit`.
    """

    recipe: Recipe
    index: Index
    machine: Machine
    facts: BackboneFacts
    plan: Plan
    written: Recipe
    start: Start | None
    extensions: Extensions = field(default_factory=Extensions)
    head: OwnHead | None = None
    count: Count = uncounted
    on_disk: dict[str, int] = field(default_factory=dict, compare=False)

    @cached_property
    def target(self) -> Target:
        """What the recipe's task is on this dataset."""
        return settled(self.recipe.task, self.index).settle(self.index)

    def score(self, answers: Answers, labels: np.ndarray, *, full: bool) -> dict[str, Any]:
        """The metrics of a split: its answers against its labels [N, …]; with `full` tables too."""
        return self.target.score(answers, np.asarray(labels), full=full, metrics=self.extensions.metrics)

    def classes_to_balance(self, labels: np.ndarray) -> np.ndarray | None:
        """The class of each row with these labels, int64 [N], where `train.sampler` balances them; None where rows
        count alike."""
        return np.asarray(labels, np.int64) if self.recipe.train.sampler == "balanced" else None

    def units_of(self, rows: LabelledRows, split: Split = "train") -> np.ndarray:
        """int64 [N]: which rows of a split belong together, by number, also with another split's; −1 is alone."""
        unit_of = {row.name: row.unit for row in self.index.splits[split]}
        return np.array([unit_of[name] for name in rows.names], np.int64)

    @property
    def base_head(self) -> OwnHead | None:
        """The base's own head, where it is what the run's model begins with."""
        without = self.start is None or not self.start.layout.head  # an adapter that was trained below that very head
        return self.head if without else None

    @property
    def start_note(self) -> str | None:
        """What the model is called before any rung, where it answers the run's labels already; else None."""
        if self.start is not None and self.start.keeps_head:
            return "adapter.from as it is"
        own = self.base_head
        if own is None or not own.answers_all:
            return None
        return f"the base's own head: {own.note}" if self.start is None else "adapter.from below the base's own head"

    @property
    def start_digest(self) -> str | None:
        """sha256 (hex) of the adapter that the run starts from."""
        return None if self.start is None else self.start.digest
