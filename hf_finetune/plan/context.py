"""What a run knows before anything is decoded or loaded: handed down from the pipeline to the ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Index, Machine, Plan

if TYPE_CHECKING:
    from hf_finetune.adapters.starting.start import Start


@dataclass(frozen=True)
class RunContext:
    """What is known before anything is decoded or loaded.

    `written` is the recipe as it was written, which marks the run folder; in `recipe` what `adapter.from` decides is
    filled in, and `start` is that adapter.
    """

    recipe: Recipe
    index: Index
    machine: Machine
    facts: BackboneFacts
    plan: Plan
    written: Recipe
    start: Start | None

    @property
    def start_digest(self) -> str | None:
        """sha256 (hex) of the adapter that the run starts from."""
        return None if self.start is None else self.start.digest
