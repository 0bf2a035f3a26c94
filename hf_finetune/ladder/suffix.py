"""The `cached` rung of one climb: whether this backbone can take it, what an update takes, and its training.

Owns what climb.py need not know of: the cut, the kept states, and the plan's own numbers for this rung.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hf_finetune.backbones.tokens import TokenDropper
from hf_finetune.errors import ModelError
from hf_finetune.ladder.bounds import SHORT_KEEP
from hf_finetune.ladder.cached import Cut, HiddenRows, cached_objective, check_cut
from hf_finetune.ladder.left_out import Parts, least_share
from hf_finetune.ladder.passage import Passages
from hf_finetune.ladder.patches import Patches
from hf_finetune.ladder.start import as_passed
from hf_finetune.ladder.trained import TrainedRung
from hf_finetune.plan import PATCHES_KEPT
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared


class Suffix(TrainedRung):
    """The last blocks of `model` on what the pass kept. Raises ModelError where nothing was kept to train on."""

    def __init__(
        self,
        model: nn.Module,
        backbone: Any,
        ready: Prepared,
        passages: Passages | None,
        rows: Mapping[Split, PixelRows],
        patches: Patches,
    ) -> None:
        if passages is None or passages.entry is None or passages.state is None:
            raise ModelError("no hidden states were watched")
        if any(part.hidden is None for part in passages.all["train"]):
            raise ModelError("no hidden states were kept")
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ModelError("FSDP shards a model once, for one rung")
        facts = ready.facts
        self._cut = Cut(backbone, facts.blocks, passages.entry, (facts.preprocess.height, facts.preprocess.width))
        self._inputs, self._state = passages.inputs, passages.state
        self._kept: dict[Split, HiddenRows] = {
            split: HiddenRows(passages.all[split], np.asarray(rows[split].labels)) for split in ("train", "validation")
        }
        plan = replace(ready.plan, learning_rate=ready.plan.suffix_learning_rate)
        super().__init__(model, ready, plan, rows, self._kept["validation"])
        self._patches = patches
        self.blocks = len(facts.blocks) - facts.blocks.index(passages.entry)

    @property
    def share(self) -> float:
        """Of the backbone's blocks."""
        return self.blocks / len(self._cut.blocks)

    def check(self, autocast: torch.dtype | None) -> None:
        """Raise ModelError unless the kept states give the logits of the whole model."""
        with as_passed(self._model, self._ready):
            check_cut(self._model, self._cut, self._inputs, self._state, autocast)

    def least_share(self, autocast: torch.dtype | None) -> float:
        """Of an image's patches, such that the head still answers; 0 where all are needed or the recipe names it."""
        if self._ready.recipe.train.patches_kept != "auto" or self._patches.dropper(SHORT_KEEP) is None:
            return 0.0
        piece = self._ready.plan.eval_batch.value

        def parts(keep: float) -> Parts:
            return self._parts(self._patches.dropper(keep))

        with self._cut.suffix(), as_passed(self._model, self._ready):
            return least_share(self._model, parts, (SHORT_KEEP, PATCHES_KEPT), piece, autocast)

    @contextmanager
    def _training(self, keep: float) -> Iterator[Parts]:
        dropper = self._patches.dropper(keep)  # the first one counts the tokens, which takes the whole model
        with self._cut.suffix():
            yield self._parts(dropper)

    def _parts(self, dropper: TokenDropper | None) -> Parts:
        ready = self._ready
        return cached_objective(ready.recipe, ready.index.labels, self._kept["train"], self._rows["train"], dropper)
