"""Climbs the ladder: probe, cached, full; each rung starts from the best so far and is kept only if it is better.

Owns the order of the rungs, what of the time each gets, and which candidate wins. What a rung does is its own module's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from hf_finetune import processes
from hf_finetune.adapters.trained import frozen_norms, restore_state, trained_module, trained_state
from hf_finetune.backbones.tokens import TokenDropper, extra_tokens
from hf_finetune.errors import MachineError, ModelError
from hf_finetune.ladder.budget import Budget
from hf_finetune.ladder.cached import Cut, HiddenRows, cached_objective, check_cut, run_cached
from hf_finetune.ladder.calibrate import seconds_per_update
from hf_finetune.ladder.full import class_counts, objective_and_rows, run_full, training_forms
from hf_finetune.ladder.pacing import TimeSharing
from hf_finetune.ladder.passage import Passages, pass_over, token_count
from hf_finetune.ladder.probe import check_installed, fit_head, install
from hf_finetune.peak import PeakMemory, device_peak_bytes
from hf_finetune.section import format_seconds
from hf_finetune.tasks.scoring import score
from hf_finetune.training.best import is_better
from hf_finetune.training.fit import Fit, FitFolders, Interrupted
from hf_finetune.types import Candidate, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ready import Prepared

logger = logging.getLogger(__name__)

# Fewer patches than this are cheap already, and each is dear.
LEAST_PATCHES = 100


@dataclass
class Climbed:
    """Where the climb ended: the model holds the best rung's weights; `logits` float32 [N, C] are validation's."""

    candidates: list[Candidate] = field(default_factory=list)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    logits: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    fit: Fit | None = None
    interrupted: bool = False

    @property
    def best(self) -> Candidate:
        """The rung that was kept last."""
        return [candidate for candidate in self.candidates if candidate.kept][-1]


def _patches_note(keep: float, dropper: TokenDropper | None) -> str:
    return "" if dropper is None else f"{keep:.0%} of the patches"


class Climber:
    """One climb. `rows` are the store's, `probe_rows` the training rows at the checkpoint's own geometry."""

    def __init__(
        self,
        model: nn.Module,
        ready: Prepared,
        rows: Mapping[Split, PixelRows],
        probe_rows: PixelRows | None,
        folders: FitFolders,
        cache: Path,
        identity: str,
        budget: Budget | None,
        peak: PeakMemory,
    ) -> None:
        self._model, self._ready, self._rows, self._probe_rows = model, ready, rows, probe_rows
        self._folders, self._cache, self._identity = folders, cache, identity
        self._time, self._peak = TimeSharing(ready.plan, ready.recipe, len(rows["train"]), budget), peak
        self._passages: Passages | None = None
        self._state: Mapping[str, torch.Tensor] | None = None
        self._measured: dict[float, float] = {}
        backbone = model.get_base_model() if isinstance(model, PeftModel) else model
        self._backbone: Any = backbone
        self._result = Climbed()
        precision = ready.plan.precision.value
        # Frozen weights are in the plan's precision already; only full fine-tuning keeps float32 and needs autocast.
        mixed = ready.recipe.adapter.kind == "full" and precision != "fp32"
        self._autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision] if mixed else None

    def climb(self) -> Climbed:
        """Every rung of the plan that fits; Ctrl-C ends it with the best rung so far, once there is one."""
        steps = {"probe": self._probe, "cached": self._cached, "full": self._full}
        for rung in self._ready.plan.rungs.value:
            try:
                steps[rung]()
            except ModelError as error:
                if rung == "full" or self._ready.plan.rungs.value == (rung,):
                    raise
                logger.info("%s: not for this backbone (%s)", rung, error)
            except Interrupted as interruption:
                self._keep(rung, interruption.fit.metrics, interruption.fit.logits, interruption.fit, None)
                self._result.interrupted = True
            except KeyboardInterrupt:
                if not self._result.candidates:
                    raise
                self._result.interrupted = True
            if self._result.interrupted:
                break
        if self._state is None:
            raise MachineError(
                f"budget.time: {format_seconds(self._ready.recipe.budget.time or 0)} are too short for any rung of "
                f"{', '.join(self._ready.plan.rungs.value)}.",
                "Raise it, or let ladder hold the probe.",
            )
        restore_state(self._model, self._state)
        return self._result

    # -------------------------------------------------------------------------------------------------------- rungs

    def _probe(self) -> None:
        if self._probe_rows is None:
            raise ValueError("the probe needs training rows at the checkpoint's geometry")
        started = time.monotonic()
        splits: dict[Split, PixelRows] = {"train": self._probe_rows, "validation": self._rows["validation"]}
        self._passages = passages = pass_over(
            self._model,
            self._ready,
            splits,
            self._cache,
            self._identity,
            self._autocast,
            announce=self._time.announce_probe,
        )
        recipe, labels = self._ready.recipe, self._ready.index.labels
        weights = recipe.task.weights_for(class_counts(self._probe_rows, labels))
        kept = passages.own
        head = fit_head(kept["train"], np.asarray(self._probe_rows.labels), len(labels.names), weights)
        heads = [trained_module(self._model, name) for name in self._ready.facts.head]
        before = [(weight, weight.detach().clone()) for module in heads for weight in module.parameters()]
        try:
            install(self._model, self._ready.facts.head, head)
            check_installed(self._model, passages.inputs, head.logits(passages.first_features), self._autocast)
        except ModelError:
            for weight, fresh in before:  # the next rungs start from the fresh head, not from a wrong one
                weight.data.copy_(fresh)
            raise
        validation = self._rows["validation"]
        logits = np.empty((len(validation), len(labels.names)), np.float32)
        own = kept["validation"]
        for where, part in processes.gather((own.rows, head.logits(own.features))):
            logits[where] = part
        metrics = score(logits, np.asarray(validation.labels), labels.names, full=False)
        note = f"λ {head.choice.penalty:g}, leave-one-out accuracy {head.choice.accuracy:.3f}"
        note += ", features from the cache" if passages.found else ""
        self._keep("probe", metrics, logits, None, time.monotonic() - started, passages.forecast_s, note)

    def _cached(self) -> None:
        passages, plan, recipe = self._passages, self._ready.plan, self._ready.recipe
        labels = self._ready.index.labels
        if passages is None or passages.entry is None or any(part.hidden is None for part in passages.all["train"]):
            raise ModelError("no hidden states were kept")
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ModelError("FSDP shards a model once, for one rung")
        facts = self._ready.facts
        size = (facts.preprocess.height, facts.preprocess.width)
        cut = Cut(passages.backbone, facts.blocks, passages.entry, size)
        check_cut(self._model, cut, passages.inputs, passages.first_hidden(), self._autocast)
        rows = HiddenRows(passages.all["train"], np.asarray(self._rows["train"].labels))
        validation = HiddenRows(passages.all["validation"], np.asarray(self._rows["validation"].labels))

        def update_s(keep: float) -> float:
            parts = cached_objective(recipe, labels, rows, self._rows["train"], self._dropper(keep))
            with cut.suffix():
                return self._update_s(*parts)

        suffix = 1 - facts.blocks.index(passages.entry) / len(facts.blocks)
        turn = self._time.cached(update_s, self._full_update_s, suffix * self._share("validation"))
        if turn is None or turn.pace is None:
            return
        dropper = self._dropper(turn.keep)
        started = time.monotonic()
        fit = run_cached(
            self._model,
            recipe,
            plan,
            labels,
            cut,
            rows=rows,
            train=self._rows["train"],
            validation=validation,
            folders=replace(self._folders, resume=None),
            pace=turn.pace,
            dropper=dropper,
        )
        note = f"last {len(facts.blocks) - facts.blocks.index(passages.entry)} of {len(facts.blocks)} blocks"
        note = f"{note}, {_patches_note(turn.keep, dropper)}".rstrip(", ")
        self._keep("cached", fit.metrics, fit.logits, fit, time.monotonic() - started, turn.forecast_s, note)

    def _full(self) -> None:
        plan, recipe = self._ready.plan, self._ready.recipe
        if self._state is not None:
            restore_state(self._model, self._state)
        turn = self._time.full(self._full_update_s, self._share("validation"))
        if turn is None:
            return
        logger.info("full: about %s", format_seconds(turn.forecast_s))
        started = time.monotonic()
        dropper = self._dropper(turn.keep)
        fit = run_full(
            self._model,
            recipe,
            plan,
            self._ready.facts.preprocess,
            self._ready.index.labels,
            train=self._rows["train"],
            validation=self._rows["validation"],
            folders=self._folders if turn.pace is None else replace(self._folders, resume=None),
            pace=turn.pace,
            dropper=dropper,
            first_block=self._first_block() if dropper is not None else None,
        )
        note = _patches_note(turn.keep, dropper)
        self._keep("full", fit.metrics, fit.logits, fit, time.monotonic() - started, turn.forecast_s, note)

    # ------------------------------------------------------------------------------------------------------- pieces

    def _update_s(self, objective: Any, rows: Any) -> float:
        plan = self._ready.plan
        with training_forms(self._model, plan) as autocast:
            mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(plan.precision.value) if autocast else None
            seconds = seconds_per_update(
                self._model,
                objective,
                rows,
                micro_batch=plan.micro_batch.value,
                batch=plan.effective_batch.value // self._ready.machine.world_size,
                frozen_norms=frozen_norms(self._model),
                autocast=mixed,
            )
        return processes.agree(seconds)

    def _full_update_s(self, keep: float) -> float:
        """Seconds of one update of the full rung; measured once for each share of patches."""
        if keep not in self._measured:
            self._measured[keep] = self._measure_full(keep)
        return self._measured[keep]

    def _measure_full(self, keep: float) -> float:
        ready, dropper = self._ready, self._dropper(keep)
        objective, rows = objective_and_rows(
            ready.recipe, ready.plan, ready.facts.preprocess, ready.index.labels, self._rows["train"], dropper
        )
        if dropper is None:
            return self._update_s(objective, rows)
        with dropper.before(self._first_block()):
            return self._update_s(objective, rows)

    def _dropper(self, keep: float) -> TokenDropper | None:
        """What leaves patches out; None where all are kept, or this backbone needs every one."""
        if keep >= 1 or self._tokens is None:
            return None
        return TokenDropper(keep, *self._tokens)

    @cached_property
    def _tokens(self) -> tuple[int, int] | None:
        """Extra tokens and patches that enter the first block; None where none may, or need, be left out."""
        facts = self._ready.facts
        if not facts.blocks:
            return None
        tokens = token_count(self._backbone, facts.blocks[0], (facts.preprocess.height, facts.preprocess.width))
        extra = None if tokens is None else extra_tokens(self._backbone, tokens)
        if tokens is None or extra is None or tokens - extra < LEAST_PATCHES:
            return None
        return extra, tokens - extra

    def _share(self, split: Split) -> int:
        """Rows of a split that this process evaluates."""
        return -(-len(self._rows[split]) // self._ready.machine.world_size)

    def _first_block(self) -> nn.Module:
        return self._backbone.get_submodule(self._ready.facts.blocks[0])

    def _keep(
        self,
        rung: str,
        metrics: Mapping[str, Any],
        logits: np.ndarray,
        fit: Fit | None,
        seconds: float | None,
        forecast_s: float | None = None,
        note: str = "",
    ) -> None:
        """Note the candidate, and keep its weights if it is the best."""
        by = self._ready.recipe.train.best_by
        better = not self._result.candidates or is_better(metrics, self._result.metrics, by)
        device = self._ready.plan.device.value
        candidate = Candidate(
            rung=rung,
            validation={key: value for key, value in metrics.items() if isinstance(value, int | float)},
            seconds=fit.seconds if seconds is None and fit is not None else seconds or 0.0,
            peak_bytes=device_peak_bytes(device) or self._peak.anonymous_bytes,
            step=fit.best_step if fit else 0,
            kept=better,
            forecast_s=forecast_s,
            note=note,
        )
        self._result.candidates.append(candidate)
        if fit is not None:
            self._result.fit = fit
        if better:
            self._result.metrics, self._result.logits = metrics, logits
            self._state = trained_state(self._model)
        spent = f"in {format_seconds(candidate.seconds)}" + ("" if better else ", not better: dropped")
        logger.info("%-6s %.3f validation %s %s%s", rung, metrics[by], by, spent, f" ({note})" if note else "")
