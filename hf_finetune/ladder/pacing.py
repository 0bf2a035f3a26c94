"""How the time of a run is shared by its rungs: from a measured update and what is left, the pace of each rung."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from hf_finetune import processes
from hf_finetune.ladder.budget import Budget
from hf_finetune.recipe import Recipe
from hf_finetune.section import format_seconds
from hf_finetune.training.pace import Pace
from hf_finetune.types import Plan

logger = logging.getLogger(__name__)

# A full rung of fewer passes over the data gained nothing over more of the cached one (TrashNet, ViT-Tiny, 63 s of
# full: .896, the same time of cached: .916; two cores, seed 0, 2026-11-23).
LEAST_FULL_EPOCHS = 4.0
# After the cached rung, fewer passes than this are not worth their time (TrashNet, 150 s in all: 1.5 of them gave .936
# after .951; three, on held-out photos, 1.7 points more with half of the patches, .4 with a quarter; 2026-11-25).
LEAST_EPOCHS_AFTER_CACHED = 3.0
# Where both fit, the cached rung's share of the time.
CACHED_SHARE = 0.25
# Passes after which it levels off, more where images are few: so many images in all, in at most so many passes. On
# held-out photos (docs/RESULTS.md): 100 images, 4 passes .750, 12 .760, 30 .775 (the probe .766); 500, 6 passes .898,
# 12 .917 (the probe .886).
CACHED_EPOCHS = 4.0
CACHED_IMAGES = 6_000
LARGEST_EPOCHS = 30.0
ALONE = 2.0  # times as many of the cached rung alone
CACHED_EVALUATIONS = 3
# Rungs shorter than this many updates move nothing.
LEAST_UPDATES = 10
# Where time allows fewer passes than this with the planned share of patches, more passes with fewer patches do better
# (same runs, 22 s of full: a quarter .893, half .875).
FEW_EPOCHS = 3.0
SHORT_KEEP = 0.25
# An update costs at least this many bare forward passes of what is kept: forward, and the gradient of the inputs.
LEAST_PASSES = 2.0
# Updates may take that many times what was measured before evaluations on the way are at their cost (of 17 to 59
# forecast in five runs, 83 to 120 % were done in their time; 100 photos, two cores, 2026-11-25).
SLOWER = 1.1
UpdateSeconds = Callable[[float], float]  # share of patches -> seconds of an update


@dataclass(frozen=True)
class Turn:
    """What a rung gets: its pace (None: the plan's steps), its share of patches, and what it is expected to take."""

    pace: Pace | None
    keep: float
    forecast_s: float


@dataclass(frozen=True)
class Limits:
    """Of a rung under a budget: at most so many steps and evaluations, of so many seconds each; with `least_s` seconds
    or fewer nothing is measured."""

    steps: int
    evaluation_s: float
    most_evaluations: int
    least_s: float = 0.0

    def evaluations(self, spare_s: float) -> int:
        """How many of them, the last with them, where that many seconds are left for the others."""
        paid = int(max(0.0, spare_s) / max(self.evaluation_s, 1e-9))
        return 1 + min(self.most_evaluations - 1, paid)


class TimeSharing:
    """Paces for the rungs of one run; without a budget they follow the plan's epochs."""

    def __init__(self, plan: Plan, recipe: Recipe, rows: int, budget: Budget | None) -> None:
        self._plan, self._recipe, self._budget = plan, recipe, budget
        self._epoch_updates = max(1, rows // plan.effective_batch.value)
        self._cached_epochs = max(CACHED_EPOCHS, min(LARGEST_EPOCHS, CACHED_IMAGES / max(1, rows)))
        self._update_images = min(plan.effective_batch.value, plan.micro_batch.value * plan.accumulation.value)
        self._image_s = 0.0
        self._least_share = 0.0
        self._least_updates: dict[str, float] = {"cached": LEAST_UPDATES, "full": LEAST_UPDATES}

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    def left_s(self) -> float:
        """Seconds for rungs from now, the same on every process."""
        return float("inf") if self._budget is None else processes.agree(self._budget.left_s(self._image_s))

    def announce_probe(self, image_s: float, images: int) -> None:
        """Note what a forward pass takes an image, and say so where the probe alone takes more than there is."""
        self._image_s = processes.agree(image_s)
        if self.limited and images and self._image_s * images > self.left_s():
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
        return max(SHORT_KEEP, self._least_share)

    def cached(self, update_s: UpdateSeconds, full_s: UpdateSeconds, images: float) -> Turn | None:
        """The cached rung's turn; `images`: whole forward passes that one evaluation costs. None: it does not fit."""
        keep = self._share
        whole = self._cached_epochs * self._epoch_updates
        evaluation_s = images * self._image_s
        if not self.limited:
            steps = max(round(whole), LEAST_UPDATES)
            pace = Pace(steps, evaluations=CACHED_EVALUATIONS)
            return Turn(pace, keep, steps * update_s(keep) + CACHED_EVALUATIONS * evaluation_s)
        full_fits = "full" in self._plan.rungs.value and self._full_fits(full_s, keep, evaluation_s)
        left = self.left_s() - evaluation_s
        if full_fits:
            left = min(CACHED_SHARE * left, whole * update_s(keep))
        turn = self._limited("cached", update_s, left, Limits(round(ALONE * whole), evaluation_s, CACHED_EVALUATIONS))
        if turn is not None:
            self._least_updates["full"] = max(LEAST_UPDATES, LEAST_EPOCHS_AFTER_CACHED * self._epoch_updates)
        return turn

    def _full_fits(self, full_s: UpdateSeconds, keep: float, evaluation_s: float) -> bool:
        """Whether the full rung's least fits beside the cached rung's share."""
        rest = (1 - CACHED_SHARE) * (self.left_s() - evaluation_s)
        updates = LEAST_FULL_EPOCHS * self._epoch_updates
        return updates * self._least_update_s(keep) < rest and updates * full_s(keep) < rest

    def _least_update_s(self, keep: float) -> float:
        """What a full update takes at the very least. Where not even that fits nothing is measured, since a measurement
        takes seconds, and the first one decodes the training rows."""
        return LEAST_PASSES * keep * self._update_images * self._image_s

    def full(self, update_s: UpdateSeconds, images: float) -> Turn | None:
        """The full rung's; no pace without a budget, where the plan's steps hold and checkpoints are written."""
        keep, steps, evaluation_s = self._share, self._plan.steps.value, images * self._image_s
        if not self.limited:
            evaluations = min(steps, self._recipe.train.evaluations)
            return Turn(None, keep, steps * update_s(keep) + evaluations * evaluation_s)
        left = self.left_s() - evaluation_s
        least_s = self._least_updates["full"] * self._least_update_s(min(keep, self._short_share))
        limits = Limits(steps, evaluation_s, self._recipe.train.evaluations, least_s)
        return self._limited("full", update_s, left, limits)

    def _limited(self, rung: str, update_s: UpdateSeconds, seconds: float, limits: Limits) -> Turn | None:
        """As many updates as fit into `seconds`, of which measuring takes its part, and at most those of `limits`. What
        they leave pays for evaluations on the way, of which the best is kept; the last one is paid for already."""
        keep, steps, each, left, started = self._share, 0, 0.0, seconds, time.monotonic()
        if seconds > limits.least_s:
            each = update_s(keep)
            few = seconds / each < FEW_EPOCHS * self._epoch_updates
            if few and self._short_share < keep < 1 and self._recipe.train.patches_kept == "auto":
                keep, each = self._short_share, update_s(self._short_share)
            seconds -= processes.agree(time.monotonic() - started)
            steps = max(0, int(seconds / each))
        if steps < min(self._least_updates[rung], limits.steps):
            logger.info("%s: %s are left, too few; not run", rung, format_seconds(max(0.0, left)))
            return None
        wanted = min(steps, limits.steps)
        evaluations = limits.evaluations(seconds - SLOWER * wanted * each)
        # The clock decides; 1.5 times the forecast's updates is only a bound.
        pace = Pace(min(round(1.5 * steps), limits.steps), seconds, evaluations)
        return Turn(pace, keep, wanted * each + evaluations * limits.evaluation_s)
