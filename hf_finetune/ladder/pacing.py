"""How the time of a run is shared by its rungs: from a measured update and what is left, the pace of each rung.

Owns the clock of a run and what of a rung is worth its time: thresholds that were measured, each with its measurement.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_finetune.ladder.lengths import EVALUATIONS, FEWEST_UPDATES, LONGEST, whole_epochs
from hf_finetune.machine import processes
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.training.pace import Pace
from hf_finetune.types import Plan
from hf_finetune.units import format_seconds

if TYPE_CHECKING:
    from hf_finetune.training.fit import Fit

logger = logging.getLogger(__name__)

# Saving, verifying, writing the report and leaving the interpreter, without loading and scoring (measured 2.2 s with
# ViT-Tiny on two cores, AMD EPYC, 2026-11-23).
CLOSING_S = 2.5
# A forward pass with LoRA (low_memory.py) against the bare backbone's (ViT-Tiny on a CPU, 2026-11-23).
LORA_FORWARD = 1.2
# A full rung of fewer passes over the data, or in time that the cached one still needs, gained nothing over more of the
# cached one (TrashNet, ViT-Tiny, 63 s of full: .896, the same time of cached: .916; two cores, seed 0, 2026-11-23. A
# minute on 500 photos, a quarter of it cached: TrashNet .870, digits .927; all of it: .873 and .946;
# docs/experiments.md, "A minute on 500 photos").
LEAST_FULL_EPOCHS = 4.0
# Full is counted on where so many times its least updates fit behind the cached rung. With just them it was dropped (a
# minute on 500 drawings, two cores: four of four runs of 60 to 75 updates), or its seconds were nobody's where cached
# left fewer than forecast (16 of 60). Twice as many is too strict: with 100 photos 80 gained (the same page and
# section).
SPARE = 4 / 3
# After the cached rung, fewer passes than this are not worth their time (TrashNet, 150 s in all: 1.5 of them gave .936
# after .951; three, on held-out photos, 1.7 points more with half of the patches, .4 with a quarter; 2026-11-25).
LEAST_EPOCHS_AFTER_CACHED = 3.0
# Shorter rungs lose against what they start from: of 65 runs of at most 60 updates 18 were kept, and validation fell by
# .6 to 1.8 points on average; of 32 of 60 to 100 updates 22, and it rose by .3 to 2.7 (docs/experiments.md, "The
# shortest cached rung"). With averaged weights and half of the patches 30 updates of the cached rung are level with
# the probe or above it, 15 are not ("The shortest cached rung, averaged").
LEAST_UPDATES, LEAST_AVERAGED = 60, 30
# Where time allows full fewer passes than this with the planned share of patches, more passes with fewer patches do
# better (TrashNet, 22 s of full: a quarter .893, half .875). Cached gains nothing by it ("The shortest cached rung,
# averaged").
FEW_EPOCHS = 3.0
SHORT_SHARE = 0.25
# An update costs at least this many bare forward passes of what is kept: forward, and the gradient of the inputs.
LEAST_PASSES = 2.0
# Evaluations on the way tell where a rung levels off; they may take this share of its seconds. Assumption.
EVALUATED_SHARE = 0.15
# A rung ends after so many evaluations that were no better than its best: on averaged weights the score hardly jumps,
# and hardly falls (docs/experiments.md, "Averaged weights under a constant rate").
PATIENCE = 3
# Without a number of epochs in the recipe, a rung that still gains may go on for so many times what is planned.
LONGEST_FULL = 3.0
# A budget that is named because it would do is so much longer than the one that just would: the next run's updates may
# be slower than this one's. Assumption.
NAMED_MARGIN = 1.15
SHORTEST_LEFT_S = 0.05  # that is told as a number
UNMEASURED = 2.0  # times the least that an update takes, where none was measured. Assumption.

UpdateSeconds = Callable[[float], float]  # share of patches -> seconds of an update


@dataclass(frozen=True)
class TimeLeft:
    """`seconds` from process start to exit, `spent` so far; `load_s`: what loading the saved result will take.

    Images that are passed over after the last rung: `end_rows` by the whole model (the test), `kept_rows` by what the
    rung trains alone where their states were kept (what training images are like).
    """

    seconds: float
    spent: Callable[[], float]
    load_s: float
    end_rows: int
    kept_rows: int = 0

    def end_s(self, image_s: float, depth: float = 1.0) -> float:
        """What the end of the run takes: verified save, and those images at `image_s` a bare forward pass. `depth`: the
        share of a forward pass that images with kept states take."""
        return CLOSING_S + self.load_s + (self.end_rows + depth * self.kept_rows) * image_s * LORA_FORWARD

    def left_s(self, image_s: float, depth: float = 1.0) -> float:
        """Seconds that a rung may take from now."""
        return self.seconds - self.spent() - self.end_s(image_s, depth)


@dataclass(frozen=True)
class Limits:
    """Of a rung: at most so many steps, and after every `every` of them an evaluation of so many seconds; with
    `least_s` seconds or fewer nothing is measured."""

    steps: int
    evaluation_s: float
    every: float
    least_s: float = 0.0

    def evaluations(self, steps: int, seconds: float | None = None) -> int:
        """How many there are in so many steps, which take so many seconds: the last one, and others on the way. Without
        seconds none is too dear, so that two runs without a budget are the same."""
        wanted = max(1, round(steps / max(1.0, self.every)))
        if seconds is None:
            return wanted
        return min(wanted, 1 + int(EVALUATED_SHARE * seconds / max(self.evaluation_s, 1e-9)))


@dataclass(frozen=True)
class Turn:
    """What a rung gets: its pace (None: the plan's steps), its share of patches, and what it is expected to take at
    most, of which each update and each evaluation."""

    pace: Pace | None
    share: float
    forecast_s: float
    update_s: float = 0.0
    evaluation_s: float = 0.0

    def taken(self, fit: Fit) -> float:
        """What the updates and evaluations that there were are expected to have taken."""
        return fit.step * self.update_s + fit.evaluations * self.evaluation_s


class TimeSharing:
    """Paces for the rungs of one run; without a budget they follow the plan's epochs.

    `any_time`: a rung may end at any time, since its result is the average of its weights, so that it goes on while it
    gains. Else its learning rate falls, and it ends when that has fallen.
    """

    def __init__(
        self, plan: Plan, recipe: Recipe, rows: int, budget: TimeLeft | None, *, any_time: bool = True
    ) -> None:
        self._plan, self._recipe, self._budget = plan, recipe, budget
        self._patience = PATIENCE if any_time else 0
        self._epoch_updates = max(1, rows // plan.effective_batch.value)
        self._cached_epochs = whole_epochs(rows)
        self._update_images = min(plan.effective_batch.value, plan.micro_batch.value * plan.accumulation.value)
        self._image_s = 0.0
        self._least_share = 0.0
        self._least_updates: dict[str, float] = dict.fromkeys(("cached", "full"), FEWEST_UPDATES)
        if "probe" in plan.rungs.value:
            cached = LEAST_AVERAGED if any_time else LEAST_UPDATES
            self._least_updates = {"cached": cached, "full": LEAST_UPDATES}
        self._full_waits_s = 0.0  # what the budget must hold beside full's own updates, where cached comes first
        self._cached_unmeasured = False
        self.would_do: dict[str, str] = {}  # rung that was not run -> about the budget that it would have run with

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    def left_s(self, depth: float = 1.0) -> float:
        """Seconds for rungs from now, the same on every process; the last one trains this share of the blocks."""
        return float("inf") if self._budget is None else processes.agree(self._budget.left_s(self._image_s, depth))

    def note_pass(self, image_s: float) -> None:
        """Note what a forward pass takes an image; the slowest process's counts."""
        self._image_s = max(processes.gather(image_s))

    def announce_probe(self, image_s: float, images: int) -> None:
        """Note what a forward pass takes an image, and say so where the probe alone takes more than there is."""
        self.note_pass(image_s)
        left = self.left_s()  # asked on every process, whatever this one's images
        if images and self._image_s * images > left:
            logger.warning(
                "probe: the pass over %d images alone takes about %s, more than the budget; it is all that runs.",
                images,
                format_seconds(self._image_s * images),
            )

    def keep_at_least(self, share: float) -> None:
        """Training needs this share of the patches."""
        self._least_share = share

    @property
    def _share(self) -> float:
        """Of the patches, where the time is enough for some passes."""
        return max(self._plan.patches_kept.value, self._least_share)

    @property
    def _short_share(self) -> float:
        """Of the patches, where it is not."""
        return max(SHORT_SHARE, self._least_share)

    def cached(
        self, update_s: UpdateSeconds, full_s: UpdateSeconds, images: float, end_depth: float = 1.0
    ) -> Turn | None:
        """The cached rung's turn; `images`: whole forward passes that one evaluation costs; `end_depth`: the share of
        one that an image with kept states takes at the end. None: it does not fit."""
        share = self._share
        whole = self._cached_epochs * self._epoch_updates
        evaluation_s = images * self._image_s
        longest = LONGEST if self._patience else 1.0
        limits = Limits(max(round(longest * whole), FEWEST_UPDATES), evaluation_s, whole / EVALUATIONS)
        if not self.limited:
            each, evaluations = update_s(share), limits.evaluations(limits.steps)
            pace = Pace(limits.steps, evaluations=evaluations, patience=self._patience)
            return Turn(pace, share, limits.steps * each + evaluations * evaluation_s, each, evaluation_s)
        full_fits = self._full_fits(full_s, share, evaluation_s, lambda: whole * update_s(share))
        left = self.left_s(1.0 if full_fits else end_depth) - evaluation_s
        spent_s = self._seconds - self.left_s() + evaluation_s
        if full_fits:
            left -= evaluation_s + self._wanted_of_full * full_s(share)
        turn = self._limited("cached", update_s, left, limits)
        each = update_s(share) if left > 0 else UNMEASURED * self._least_update_s(share)
        self._full_waits_s = spent_s + whole * each
        self._cached_unmeasured = left <= 0
        if turn is not None:
            least = LEAST_EPOCHS_AFTER_CACHED * self._epoch_updates
            self._least_updates["full"] = max(self._least_updates["full"], least)
        return turn

    def _full_fits(
        self, full_s: UpdateSeconds, share: float, evaluation_s: float, before_s: Callable[[], float]
    ) -> bool:
        """Whether the full rung's least fits behind `before_s`, all passes of the cached one."""
        left = self.left_s() - evaluation_s
        updates = self._wanted_of_full
        least_s = updates * self._least_update_s(share)
        if "full" not in self._plan.rungs.value or least_s >= left:
            return False
        left -= before_s()
        return least_s < left and updates * full_s(share) < left

    @property
    def _wanted_of_full(self) -> float:
        """Updates of full below which the time is left to the cached rung."""
        return max(SPARE * self._least_updates["full"], LEAST_FULL_EPOCHS * self._epoch_updates)

    @property
    def _seconds(self) -> float:
        return float("inf") if self._budget is None else self._budget.seconds

    def _least_update_s(self, share: float) -> float:
        """What a full update takes at the very least. Where not even that fits nothing is measured, since a measurement
        takes seconds, and the first one decodes the training rows."""
        return LEAST_PASSES * share * self._update_images * self._image_s

    def full(self, update_s: UpdateSeconds, images: float) -> Turn | None:
        """The full rung's; no pace without a budget, where the plan's steps hold and checkpoints are written."""
        share, steps, evaluation_s = self._share, self._plan.steps.value, images * self._image_s
        most = self._recipe.train.evaluations
        if not self.limited:
            each, evaluations = update_s(share), min(steps, most)
            return Turn(None, share, steps * each + evaluations * evaluation_s, each, evaluation_s)
        left = self.left_s() - evaluation_s
        least_s = self._least_updates["full"] * self._least_update_s(min(share, self._short_share))
        if self._recipe.train.epochs == "auto" and self._patience:
            steps = round(LONGEST_FULL * steps)
        limits = Limits(steps, evaluation_s, max(self._epoch_updates, self._plan.steps.value / most), least_s)
        return self._limited("full", update_s, left, limits)

    def _limited(self, rung: str, update_s: UpdateSeconds, seconds: float, limits: Limits) -> Turn | None:
        """As many updates as fit into `seconds`, of which measuring takes its part, and at most those of `limits`, with
        evaluations on the way, of which the best is kept; the last one is paid for already."""
        share, steps, left, started = self._share, 0, seconds, time.monotonic()
        whole = each = UNMEASURED * self._least_update_s(share)
        measured = seconds > limits.least_s
        if measured:
            whole = each = update_s(share)
            few = rung == "full" and seconds / each < FEW_EPOCHS * self._epoch_updates
            if few and self._short_share < share < 1 and self._recipe.train.patches_kept == "auto":
                share, each = self._short_share, update_s(self._short_share)
            seconds -= processes.agree(time.monotonic() - started)
            steps = max(0, int(seconds / each))
        if steps < min(self._least_updates[rung], limits.steps):
            least = min(self._least_updates[rung], limits.steps)
            # With more time for few images the larger share of patches is planned, and each update takes longer.
            needed_s = self._seconds - left + least * (whole if least > FEW_EPOCHS * self._epoch_updates else each)
            if rung == "full" and self._full_waits_s:  # all passes of the cached rung come first, where full fits
                needed_s = max(needed_s, self._full_waits_s + self._wanted_of_full * whole)
            # So few images that all passes of the cached rung are too few updates: no budget would do where full fits.
            never = rung == "cached" and least > self._cached_epochs * self._epoch_updates
            measured = measured and not (rung == "full" and self._cached_unmeasured)
            self._refuse(rung, left, None if never or each <= 0 else needed_s, measured=measured)
            return None
        evaluations = limits.evaluations(min(steps, limits.steps), seconds)
        wanted = min(limits.steps, max(1, int((seconds - (evaluations - 1) * limits.evaluation_s) / each)))
        # The clock decides; 1.5 times the forecast's updates is only a bound.
        pace = Pace(min(round(1.5 * steps), limits.steps), seconds, evaluations, self._patience)
        return Turn(pace, share, wanted * each + evaluations * limits.evaluation_s, each, limits.evaluation_s)

    def _refuse(self, rung: str, left: float, needed_s: float | None, *, measured: bool) -> None:
        """Say that the rung is not run, and about which budget would do (None: none is known).

        It is an estimate: the next try measures its updates anew, which take as long as the machine lets them then.
        Where this one had no time to measure any, even that is a guess, and the next try may name another.
        """
        does = ""
        if needed_s is not None:
            self.would_do[rung] = as_budget(needed_s)
            does = f" ({'about' if measured else 'a guess:'} budget.time={self.would_do[rung]} would do)"
        little = "no time is left" if left < SHORTEST_LEFT_S else f"{format_seconds(left)} are left, too few"
        logger.info("%s: %s; not run%s", rung, little, does)


def as_budget(seconds: float) -> str:
    """A budget that just holds `seconds`, with a margin, as a recipe says it: 95s, 4m."""
    wanted = NAMED_MARGIN * seconds
    return f"{5 * math.ceil(wanted / 5)}s" if wanted <= 120 else f"{math.ceil(wanted / 60)}m"
