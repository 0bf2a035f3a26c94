"""Climbs the ladder: probe, cached, full; each rung starts from the best so far and is kept only if it is better.

Owns the order of the rungs and what of the time each gets. What a rung does is its own module's; which candidate wins
is candidates.py's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from hf_finetune.adapters.trained import frozen_norms
from hf_finetune.backbones.engines.choose import Offer
from hf_finetune.backbones.surgery.token_dropper import TokenDropper
from hf_finetune.errors import MachineError, ModelError
from hf_finetune.ladder.candidates import START, Candidates, Climbed, Usage
from hf_finetune.ladder.going_on import GoingOn
from hf_finetune.ladder.pacing import TimeLeft, TimeSharing
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, PassResult, extract_features
from hf_finetune.ladder.probe.heads import LeftOut
from hf_finetune.ladder.probe.last_block import short_last_block
from hf_finetune.ladder.probe.rung import install, run_probe
from hf_finetune.ladder.starting_model import answers_at_start
from hf_finetune.ladder.trained.cached import Cached
from hf_finetune.ladder.trained.full import Full
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.machine import processes
from hf_finetune.run.kept_rungs import KeptRungs
from hf_finetune.tracking.run import TrackedRun
from hf_finetune.training.autocast import autocast_type
from hf_finetune.training.averaging import may_average
from hf_finetune.training.fit import Fit, FitFolders, Interrupted
from hf_finetune.types import PixelRows, Split
from hf_finetune.units import format_seconds

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What a climb has beside model and context.

    `rows` are the store's, `probe_rows` the training rows at the checkpoint's own geometry (None: no rung asks);
    `features`: where the pass keeps what it gives; `time` is None where there is no budget; `offer`: an engine that may
    run the pass. `tracked` hears of every rung. `save` keeps what a climb holds so far, and says whether it did; `kept`
    what rungs reach, for a next try.
    """

    rows: Mapping[Split, PixelRows]
    probe_rows: PixelRows | None
    features: FeaturePlace
    folders: FitFolders
    time: TimeLeft | None
    usage: Usage
    offer: Offer = field(default_factory=Offer)
    tracked: TrackedRun = field(default_factory=TrackedRun)
    save: Callable[[Climbed], bool] = lambda climbed: False  # noqa: ARG005
    kept: KeptRungs = field(default_factory=lambda: KeptRungs(None, {}))


class Climber:
    """One climb of `model`, which holds the best rung's weights in the end."""

    def __init__(
        self, model: nn.Module, context: RunContext, given: Given, candidates: Candidates | None = None
    ) -> None:
        self._model, self._context, self._given = model, context, given
        plan, recipe = context.plan, context.recipe
        any_time = recipe.train.schedule == "auto" and may_average(model, frozen_norms(model))
        self._time = TimeSharing(plan, recipe, len(given.rows["train"]), given.time, any_time=any_time)
        if candidates is None:
            by, labels = recipe.train.best_by, np.asarray(given.rows["validation"].labels)
            gains = partial(context.target.gains, labels=labels, by=by)
            candidates = Candidates(model, by, plan.device.value, given.usage, gains, given.tracked.rung)
        self._candidates = candidates
        self._passed: PassResult | None = None
        self._engine: Mapping[str, Any] = {}
        self._frozen: LeftOut | None = None
        self._backbone: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self._patches = Patches(self._backbone, context.facts)
        self._whole = Full(model, context, given.rows, self._patches)
        self._suffix: Cached | None = None
        self._going_on = GoingOn(given.kept, model, context, np.asarray(given.rows["validation"].labels))
        self._refused: list[str] = []
        # Frozen weights are in the plan's precision already; only full fine-tuning keeps float32 and needs autocast.
        self._autocast = autocast_type(plan.precision.value) if recipe.adapter.whole else None

    def climb(self) -> Climbed:
        """Every rung of the plan that fits; Ctrl-C ends it with the best rung so far, once there is one."""
        rows, rungs = self._given.rows["validation"], self._context.plan.rungs.value
        interrupted = False
        with short_last_block(self._model, self._backbone, self._context, rows, self._autocast):
            if (note := self._context.start_note) is not None:
                self._start(note)
            for rung in rungs:
                interrupted = not self.take(rung)
                if interrupted:
                    break
            if not len(self._candidates):
                raise self._nothing_taken(rungs)
            climbed = self._candidates.settled(interrupted=interrupted)
        climbed = replace(climbed, engine=self._engine, frozen=self._frozen)
        if self._suffix is not None and climbed.best.rung == "cached":
            return replace(climbed, suffix_features=self._suffix.features)
        if self._passed is None or climbed.best.rung != "probe":
            return climbed
        passed = self._passed
        return replace(climbed, features=passed.own, all_features=passed.all, made_by=passed.engine.identity)

    @property
    def passed(self) -> PassResult | None:
        """What the pass over the frozen backbone left, once the probe was taken."""
        return self._passed

    def take(self, rung: str) -> bool:
        """One rung; a probe or cached rung that this backbone cannot take is left out, if another is left.

        False: it was interrupted."""
        before = len(self._candidates)
        try:
            {"probe": self._probe, "cached": self._cached, "full": self._full}[rung]()
            # What an earlier try has saved is better than its probe was, and comes next.
            if len(self._candidates) > before and not (rung == "probe" and self._going_on.has_some):
                self._candidates.save(self._given.save)
        except ModelError as error:
            if rung == "full" or self._context.plan.rungs.value == (rung,):
                raise
            self._refused.append(f"{rung}: {error.message}")
            logger.info("%s: left out (%s)", rung, error)
        except Interrupted as interruption:
            self._given.tracked.interrupt()
            self._offer_fit(rung, interruption.fit, None)
            self._keep(rung, interruption.fit, ended=False)
            return False
        except KeyboardInterrupt:
            if not len(self._candidates):
                raise
            return False
        return True

    # -------------------------------------------------------------------------------------------------------- rungs

    def _start(self, note: str) -> None:
        """The model answers these labels as it starts, by adapter.from or the base's own head: no rung may end below
        it."""
        started = time.monotonic()
        validation = self._given.rows["validation"]
        answers = answers_at_start(self._model, self._context, validation)
        metrics = self._context.score(answers, validation.labels, full=False)
        seconds = time.monotonic() - started
        self._candidates.offer(START, metrics, answers, seconds, note=note)

    def _probe(self) -> None:
        if self._given.probe_rows is None:
            raise ValueError("the probe needs training rows at the checkpoint's geometry")
        started = time.monotonic()
        splits: dict[Split, PixelRows] = {"train": self._given.probe_rows, "validation": self._given.rows["validation"]}
        self._passed = passed = extract_features(
            self._model,
            self._context,
            splits,
            self._given.features,
            self._autocast,
            announce=self._time.announce_probe,
            offer=self._given.offer,
        )
        self._time.note_pass(passed.image_s)
        probed = run_probe(self._model, self._context, splits, passed, self._autocast)
        self._engine, self._frozen = passed.engine.compare_answers(probed.final), probed.closed_form
        seconds = time.monotonic() - started
        self._candidates.offer(
            "probe",
            probed.metrics,
            probed.answers,
            seconds,
            forecast_s=passed.forecast_s,
            note=probed.note,
            left_out=probed.left_out,
            finish=partial(install, self._model, self._context.facts.head, probed.final) if probed.refitted else None,
        )

    def _cached(self) -> None:
        cached = Cached(self._model, self._backbone, self._context, self._passed, self._given.rows, self._patches)
        self._candidates.restore()  # a probe that is no better leaves its head behind
        self._check(cached)
        if self._again("cached"):
            self._suffix = cached
        if self._going_on.is_over("cached"):
            return
        # Where the start may stay the best, its whole model is run over images at the end.
        end_depth = cached.depth_share if self._context.start_note is None else 1.0
        if self._time.left_s(end_depth) > 0:
            self._time.keep_at_least(cached.least_share(self._autocast))
        evaluated = cached.depth_share * self._own_rows("validation")
        turn = self._time.cached(cached.update_s, self._whole.update_s, evaluated, end_depth)
        if turn is None or turn.pace is None:
            return
        fit = cached.run(turn.pace, turn.share, self._given.folders, partial(self._meanwhile, "cached"))
        self._suffix = cached
        note = f"last {cached.blocks} of {len(self._context.facts.blocks)} blocks"
        patches = _patches_note(turn.share, self._patches.dropper(turn.share))
        self._offer_fit("cached", fit, turn.taken(fit), note, patches)
        self._keep("cached", fit, ended=True)

    def _check(self, cached: Cached) -> None:
        """Raise ModelError, on all processes, where the cut is refused on any: one of them may lack the memory."""
        problem = None
        try:
            cached.check(self._autocast)
        except ModelError as error:
            problem = error
        for each in processes.gather(problem):
            if each is not None:
                raise each

    def _full(self) -> None:
        self._again("full")
        self._candidates.restore()
        turn = self._time.full(self._whole.update_s, self._own_rows("validation"))
        if turn is None:
            return
        logger.info("full: about %s", format_seconds(turn.forecast_s))
        fit = self._whole.run(turn.pace, turn.share, self._given.folders, partial(self._meanwhile, "full"))
        self._offer_fit("full", fit, turn.taken(fit), _patches_note(turn.share, self._patches.dropper(turn.share)))
        if turn.pace is not None:
            self._keep("full", fit, ended=True)

    # ------------------------------------------------------------------------------------------------------- pieces

    def _own_rows(self, split: Split) -> int:
        """How many rows of a split this process evaluates, at most."""
        return -(-len(self._given.rows[split]) // self._context.machine.world_size)

    def _again(self, rung: str) -> bool:
        """Offer what an earlier try had reached of a rung; whether it had reached anything."""
        found = self._going_on.restore(rung)
        if found is None:
            return False
        fit, note = found
        self._candidates.offer(rung, fit.metrics, fit.answers, 0.0, note=note, fit=fit)
        return True

    def _meanwhile(self, rung: str, fit: Fit, weights: Mapping[str, torch.Tensor]) -> None:
        """Keep what a rung has reached so far, where it is the best."""
        if self._candidates.are_below(fit.metrics):
            self._going_on.meanwhile(rung, fit, weights)

    def _keep(self, rung: str, fit: Fit, *, ended: bool) -> None:
        """Keep what a rung has reached for another try, where it is the best so far."""
        if (weights := self._candidates.newest_best) is not None:
            self._going_on.left(rung, fit, weights, ended=ended)

    def _offer_fit(self, rung: str, fit: Fit, forecast_s: float | None, *notes: str) -> None:
        self._candidates.offer(
            rung,
            fit.metrics,
            fit.answers,
            fit.seconds,
            forecast_s=forecast_s,
            note=", ".join(each for each in (*notes, _ended_note(fit)) if each),
            fit=fit,
            images=fit.step * self._context.plan.effective_batch.value,
        )

    def _nothing_taken(self, rungs: tuple[str, ...]) -> ModelError | MachineError:
        if self._refused:
            return ModelError(
                f"none of the rungs is for this backbone: {'; '.join(self._refused)}", "add full to ladder"
            )
        return MachineError(
            f"budget.time: {format_seconds(self._context.recipe.budget.time or 0)} are too short for any rung of "
            f"{', '.join(rungs)}.",
            f"Raise it{self._would_do(rungs)}, or let ladder hold the probe.",
        )

    def _would_do(self, rungs: tuple[str, ...]) -> str:
        named = [self._time.would_do[rung] for rung in rungs if rung in self._time.would_do]
        return f" to about {named[0]}" if named else ""


def _ended_note(fit: Fit) -> str:
    return f"no gain in the last {fit.waited} evaluations" if fit.waited else ""


def _patches_note(share: float, dropper: TokenDropper | None) -> str:
    return "" if dropper is None else f"{share:.0%} of the patches"
