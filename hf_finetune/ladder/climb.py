"""Climbs the ladder: probe, cached, full; each rung starts from the best so far and is kept only if it is better.

Owns the order of the rungs and what of the time each gets. What a rung does is its own module's; which candidate wins
is candidates.py's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from peft import PeftModel
from torch import nn

from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.errors import MachineError, ModelError
from hf_finetune.ladder.budget import Budget
from hf_finetune.ladder.candidates import Chooser, Climbed, numbers_of
from hf_finetune.ladder.pacing import TimeSharing
from hf_finetune.ladder.probe.feature_pass import PassResult, extract_features
from hf_finetune.ladder.probe.last_block import short_last_block
from hf_finetune.ladder.probe.rung import run_probe
from hf_finetune.ladder.starting_model import answers_at_start
from hf_finetune.ladder.trained.cached import Suffix
from hf_finetune.ladder.trained.calibrate import AUTOCAST
from hf_finetune.ladder.trained.full import Whole
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.machine import processes
from hf_finetune.tasks.scoring import score_answers
from hf_finetune.training.fit import Fit, FitFolders, Interrupted
from hf_finetune.types import Candidate, PixelRows, Split
from hf_finetune.units import format_seconds

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

logger = logging.getLogger(__name__)


class Climber:
    """One climb. `rows` are the store's, `probe_rows` the training rows at the checkpoint's own geometry."""

    def __init__(
        self,
        model: nn.Module,
        context: RunContext,
        rows: Mapping[Split, PixelRows],
        probe_rows: PixelRows | None,
        folders: FitFolders,
        cache: Path,
        identity: str,
        budget: Budget | None,
        chooser: Chooser,
    ) -> None:
        self._model, self._ready, self._rows, self._probe_rows = model, context, rows, probe_rows
        self._folders, self._cache, self._identity = folders, cache, identity
        self._time = TimeSharing(context.plan, context.recipe, len(rows["train"]), budget)
        self._chooser = chooser
        self._passed: PassResult | None = None
        self._backbone: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self._patches = Patches(self._backbone, context.facts)
        self._whole = Whole(model, context, rows, self._patches)
        self._refused: list[str] = []
        # Frozen weights are in the plan's precision already; only full fine-tuning keeps float32 and needs autocast.
        full = context.recipe.adapter.kind == "full"
        self._autocast = AUTOCAST.get(context.plan.precision.value) if full else None

    def climb(self) -> Climbed:
        """Every rung of the plan that fits; Ctrl-C ends it with the best rung so far, once there is one."""
        rows = self._rows["validation"]
        with short_last_block(self._model, self._backbone, self._ready, rows, self._autocast):
            if self._ready.start is not None and self._ready.start.keeps_head:
                self._start()
            for rung in self._ready.plan.rungs.value:
                self.take(rung)
                if self._chooser.climbed.interrupted:
                    break
        if not self._chooser.climbed.candidates and self._refused:
            raise ModelError(
                f"none of the rungs is for this backbone: {'; '.join(self._refused)}", "add full to ladder"
            )
        if not self._chooser.climbed.candidates:
            raise MachineError(
                f"budget.time: {format_seconds(self._ready.recipe.budget.time or 0)} are too short for any rung of "
                f"{', '.join(self._ready.plan.rungs.value)}.",
                "Raise it, or let ladder hold the probe.",
            )
        self._chooser.restore()
        return self._chooser.climbed

    @property
    def passed(self) -> PassResult | None:
        """What the pass over the frozen backbone left, once the probe was taken."""
        return self._passed

    def take(self, rung: str) -> None:
        """One rung; one that this backbone cannot take is left out, if another is left."""
        try:
            {"probe": self._probe, "cached": self._cached, "full": self._full}[rung]()
        except ModelError as error:
            if rung == "full" or self._ready.plan.rungs.value == (rung,):
                raise
            self._refused.append(f"{rung}: {error.message}")
            logger.info("%s: not for this backbone (%s)", rung, error)
        except Interrupted as interruption:
            self._keep_fit(rung, interruption.fit, None)
            self._chooser.climbed.interrupted = True
        except KeyboardInterrupt:
            if not self._chooser.climbed.candidates:
                raise
            self._chooser.climbed.interrupted = True

    # -------------------------------------------------------------------------------------------------------- rungs

    def _start(self) -> None:
        """The adapter that the run starts from answers these labels already: no rung may end below it."""
        started = time.monotonic()
        validation, names = self._rows["validation"], self._ready.index.labels.names
        answers = answers_at_start(self._model, self._ready, validation)
        metrics = score_answers(answers, np.asarray(validation.labels), names, full=False)
        seconds = time.monotonic() - started
        self._chooser.keep(
            Candidate("start", numbers_of(metrics), seconds, 0, 0, False, None, "adapter.from as it is"),
            metrics,
            answers,
        )

    def _probe(self) -> None:
        if self._probe_rows is None:
            raise ValueError("the probe needs training rows at the checkpoint's geometry")
        started = time.monotonic()
        splits: dict[Split, PixelRows] = {"train": self._probe_rows, "validation": self._rows["validation"]}
        self._passed = passed = extract_features(
            self._model,
            self._ready,
            splits,
            self._cache,
            self._identity,
            self._autocast,
            announce=self._time.announce_probe,
        )
        self._time.note_pass(passed.image_s)
        probed = run_probe(self._model, self._ready, splits, passed, self._autocast)
        seconds = time.monotonic() - started
        candidate = Candidate("probe", numbers_of(probed.metrics), seconds, 0, 0, False, passed.forecast_s, probed.note)
        self._chooser.keep(candidate, probed.metrics, probed.answers)

    def _cached(self) -> None:
        suffix = Suffix(self._model, self._backbone, self._ready, self._passed, self._rows, self._patches)
        self._chooser.restore()  # a probe that is no better leaves its head behind
        self._check(suffix)
        if self._time.left_s() > 0:
            self._time.keep_at_least(suffix.least_share(self._autocast))
        evaluated = suffix.share * self._share("validation")
        turn = self._time.cached(suffix.update_s, self._whole.update_s, evaluated)
        if turn is None or turn.pace is None:
            return
        fit = suffix.run(turn.pace, turn.keep, self._folders)
        note = f"last {suffix.blocks} of {len(self._ready.facts.blocks)} blocks"
        self._keep_fit("cached", fit, turn.forecast_s, note, _patches_note(turn.keep, self._patches.dropper(turn.keep)))

    def _check(self, suffix: Suffix) -> None:
        """Raise ModelError, on all processes, where the cut is refused on any: one of them may lack the memory."""
        problem = None
        try:
            suffix.check(self._autocast)
        except ModelError as error:
            problem = error
        for each in processes.gather(problem):
            if each is not None:
                raise each

    def _full(self) -> None:
        self._chooser.restore()
        turn = self._time.full(self._whole.update_s, self._share("validation"))
        if turn is None:
            return
        logger.info("full: about %s", format_seconds(turn.forecast_s))
        fit = self._whole.run(turn.pace, turn.keep, self._folders)
        self._keep_fit("full", fit, turn.forecast_s, _patches_note(turn.keep, self._patches.dropper(turn.keep)))

    # ------------------------------------------------------------------------------------------------------- pieces

    def _share(self, split: Split) -> int:
        """Rows of a split that this process evaluates."""
        return -(-len(self._rows[split]) // self._ready.machine.world_size)

    def _keep_fit(self, rung: str, fit: Fit, forecast_s: float | None, *notes: str) -> None:
        note = ", ".join(each for each in notes if each)
        images = fit.step * self._ready.plan.effective_batch.value
        candidate = Candidate(
            rung, numbers_of(fit.metrics), fit.seconds, 0, fit.best_step, False, forecast_s, note, images=images
        )
        self._chooser.climbed.fit = fit
        self._chooser.keep(candidate, fit.metrics, fit.answers)


def _patches_note(keep: float, dropper: TokenDropper | None) -> str:
    return "" if dropper is None else f"{keep:.0%} of the patches"
