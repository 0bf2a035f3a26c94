"""The `cached` rung: the last blocks and the head train on what the frozen blocks before them gave once.

Owns the rows (kept hidden states of every process), the check that prefix and suffix make the whole, and the plan's
own numbers for this rung. No pixel is decoded or augmented here; patches are left out instead, which also varies the
images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from hf_finetune.adapters.low_memory import answering_lora
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.surgery.cut import suffix_only
from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.errors import ModelError, first_line
from hf_finetune.ladder.pacing import SHORT_SHARE
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.feature_pass import PassResult, watch_of
from hf_finetune.ladder.starting_model import as_passed
from hf_finetune.ladder.trained.objective import TaskObjective, WithTokenOrder, kept_states
from hf_finetune.ladder.trained.patches import Parts, Patches, least_share
from hf_finetune.ladder.trained.rung import TrainedRung
from hf_finetune.machine.rounding import ANOTHER_ORDER, difference
from hf_finetune.plan.plan import PATCHES_KEPT
from hf_finetune.training.autocast import autocast
from hf_finetune.training.objective import Batch
from hf_finetune.training.order import BatchRows
from hf_finetune.types import Decision, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


class Cached(TrainedRung):
    """The last blocks of `model` on what the pass kept. Raises ModelError where nothing was kept to train on."""

    def __init__(
        self,
        model: nn.Module,
        backbone: Any,
        context: RunContext,
        passed: PassResult | None,
        rows: Mapping[Split, PixelRows],
        patches: Patches,
    ) -> None:
        if passed is None or passed.entry is None or passed.state is None:
            raise ModelError("no hidden states were watched")
        if any(part.hidden is None for part in passed.all["train"]):
            others = passed.own["train"].hidden is not None
            raise ModelError(
                "what the frozen blocks give could not be kept: data.cache_dir, data.store_limit"
                if not others
                else "other processes keep theirs on another disk; data.cache_dir may name storage that all share"
            )
        facts = context.facts
        self._cut = Cut(backbone, facts.blocks, passed.entry, (facts.preprocess.height, facts.preprocess.width))
        self._inputs, self._state = passed.inputs, passed.state
        self._kept: dict[Split, HiddenRows] = {
            split: HiddenRows(passed.all[split], np.asarray(rows[split].labels)) for split in ("train", "validation")
        }
        super().__init__(model, context, rows, self._kept["validation"])
        self._patches = patches
        self.blocks = len(facts.blocks) - facts.blocks.index(passed.entry)

    @property
    def learning_rate(self) -> Decision[float]:
        return self._context.plan.suffix_learning_rate

    @property
    def depth_share(self) -> float:
        """Of the backbone's blocks."""
        return self.blocks / len(self._cut.blocks)

    def check(self, dtype: torch.dtype | None) -> None:
        """Raise ModelError unless the kept states give the logits of the whole model. `dtype`: of autocast."""
        with as_passed(self._model, self._context):
            check_cut(self._model, self._cut, self._inputs, self._state, dtype)

    def least_share(self, dtype: torch.dtype | None) -> float:
        """Of an image's patches, such that the head still answers; 0 where all are needed or the recipe names it."""
        if self._context.recipe.train.patches_kept != "auto" or self._patches.dropper(SHORT_SHARE) is None:
            return 0.0
        piece = self._context.plan.eval_batch.value

        def parts(share: float) -> Parts:
            return self._parts(self._patches.dropper(share))

        with self._cut.suffix(), as_passed(self._model, self._context):
            return least_share(self._model, parts, (SHORT_SHARE, PATCHES_KEPT), piece, dtype)

    def features(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """float32 [n, d]: what the head is given of the kept states of some `rows`, numbers int64 [n], by the model as
        it is now. Raises ModelError where it takes no vector an image."""
        watch = watch_of(self._model, self._context.facts.head, None)
        eager, batch = Eager(self._model, watch), self._context.plan.eval_batch.value
        found: list[torch.Tensor] = []
        with self._cut.suffix(), answering_lora(self._model):
            for start in range(0, len(rows), batch):
                states = self._kept[split].__getitems__(rows[start : start + batch])["pixel_values"]
                features = eager(states.to(eager.device)).features
                if features is None:
                    raise ValueError("a watched model gives no features")
                found.append(features)
        return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)

    @contextmanager
    def _training(self, share: float) -> Iterator[Parts]:
        dropper = self._patches.dropper(share)  # the first one counts the tokens, which takes the whole model
        with self._cut.suffix():
            yield self._parts(dropper)

    def _parts(self, dropper: TokenDropper | None) -> Parts:
        return on_kept_states(self._context, self._kept["train"], dropper)


def on_kept_states(context: RunContext, rows: HiddenRows, dropper: TokenDropper | None) -> Parts:
    """The loss on the kept states `rows`, and the rows that it takes."""
    objective = TaskObjective(context, kept_states(dropper), lambda batch: batch["pixel_values"])
    batches: BatchRows = rows
    if dropper is not None:
        batches = WithTokenOrder(rows, dropper.patches, context.recipe.train.seed)
    return objective, batches


@dataclass(frozen=True)
class Cut:
    """Where a backbone is cut: its blocks in order, the first of the suffix, and the height and width of its images."""

    backbone: nn.Module
    blocks: tuple[str, ...]
    entry: str
    size: tuple[int, int]

    def suffix(self) -> Any:
        """A context in which the backbone starts at the cut."""
        return suffix_only(self.backbone, self.blocks, self.entry, self.size)


class HiddenRows(Dataset[Batch]):
    """Kept hidden states of one split, of all processes: row r lies with process r mod world at r // world."""

    def __init__(self, parts: Sequence[SplitFeatures], labels: np.ndarray) -> None:
        self._parts = [part.hidden for part in parts]
        if sum(len(part.rows) for part in parts) != len(labels):
            raise ModelError(f"the kept states are of {sum(len(part.rows) for part in parts)} rows, not {len(labels)}")
        self._labels = torch.from_numpy(np.asarray(labels))

    def __len__(self) -> int:
        return len(self._labels)

    def set_epoch(self, epoch: int) -> None:
        """Nothing is drawn here."""

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Batch:
        rows = np.asarray(indices, dtype=np.int64) % len(self)
        world = len(self._parts)
        first = self._parts[0]
        if first is None:
            raise ModelError("no hidden states were kept")
        bits = np.empty((len(rows), *first.shape[1:]), np.int16)
        for rank, part in enumerate(self._parts):
            mine = rows % world == rank
            if part is not None and mine.any():
                bits[mine] = part[rows[mine] // world]
        return {
            "pixel_values": torch.from_numpy(bits).view(torch.bfloat16),
            "labels": self._labels[rows],
            "rows": torch.from_numpy(rows),
        }


@torch.no_grad()
def check_cut(
    model: nn.Module, cut: Cut, pixels: torch.Tensor, hidden: torch.Tensor, dtype: torch.dtype | None
) -> None:
    """Raise ModelError unless prefix and suffix give the logits of the whole on normalised `pixels` [B, 3, H, W]."""
    with autocast(pixels.device.type, dtype):
        whole = model.eval()(pixel_values=pixels).logits.float()
        try:
            with cut.suffix():
                parts = model(pixel_values=hidden.to(pixels.device)).logits.float()
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            # Blocks that hand on more than a state, or change its shape, fail in ways of their own.
            text = first_line(error)
            raise ModelError(f"cut before {cut.entry}, its blocks do not run alone: {text}") from error
    if parts.shape != whole.shape:
        raise ModelError(f"cut before {cut.entry}, logits are {list(parts.shape)} instead of {list(whole.shape)}")
    apart, allowed = difference(whole.cpu().numpy(), parts.cpu().numpy(), ANOTHER_ORDER)
    if not apart <= allowed:
        raise ModelError(f"cut before {cut.entry}, logits differ by {apart:.3g}, {allowed:.3g} allowed")
