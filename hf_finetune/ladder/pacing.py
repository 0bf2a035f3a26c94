"""How the time of a run is shared by its rungs: from a measured update and what is left, the pace of each rung."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from hf_finetune.ladder import bounds
from hf_finetune.ladder.budget import Budget
from hf_finetune.machine import processes
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.training.pace import Pace
from hf_finetune.types import Plan
from hf_finetune.units import format_seconds

logger = logging.getLogger(__name__)

UpdateSeconds = Callable[[float], float]  # share of patches -> seconds of an update


@dataclass(frozen=True)
class Turn:
    """What a rung gets: its pace (None: the plan's steps), its share of patches, and what it is expected to take."""

    pace: Pace | None
    keep: float
    forecast_s: float


class TimeSharing:
    """Paces for the rungs of one run; without a budget they follow the plan's epochs."""

    def __init__(self, plan: Plan, recipe: Recipe, rows: int, budget: Budget | None) -> None:
        self._plan, self._recipe, self._budget = plan, recipe, budget
        self._epoch_updates = max(1, rows // plan.effective_batch.value)
        self._cached_epochs = max(bounds.CACHED_EPOCHS, min(bounds.LARGEST_EPOCHS, bounds.CACHED_IMAGES / max(1, rows)))
        self._update_images = min(plan.effective_batch.value, plan.micro_batch.value * plan.accumulation.value)
        self._image_s = 0.0
        self._least_share = 0.0
        least = bounds.LEAST_UPDATES if "probe" in plan.rungs.value else bounds.FEWEST_UPDATES
        self._least_updates: dict[str, float] = {"cached": least, "full": least}

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    def left_s(self) -> float:
        """Seconds for rungs from now, the same on every process."""
        return float("inf") if self._budget is None else processes.agree(self._budget.left_s(self._image_s))

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
        return max(bounds.SHORT_KEEP, self._least_share)

    def cached(self, update_s: UpdateSeconds, full_s: UpdateSeconds, images: float) -> Turn | None:
        """The cached rung's turn; `images`: whole forward passes that one evaluation costs. None: it does not fit."""
        keep = self._share
        whole = self._cached_epochs * self._epoch_updates
        evaluation_s = images * self._image_s
        if not self.limited:
            steps = max(round(whole), bounds.FEWEST_UPDATES)
            pace = Pace(steps, evaluations=bounds.CACHED_EVALUATIONS)
            return Turn(pace, keep, steps * update_s(keep) + bounds.CACHED_EVALUATIONS * evaluation_s)
        full_fits = self._full_fits(full_s, keep, evaluation_s, lambda: whole * update_s(keep))
        left = self.left_s() - evaluation_s
        if full_fits:
            left = min(left, whole * update_s(keep))
        limits = bounds.Limits(round(bounds.ALONE * whole), evaluation_s, bounds.CACHED_EVALUATIONS)
        turn = self._limited("cached", update_s, left, limits)
        if turn is not None:
            least = bounds.LEAST_EPOCHS_AFTER_CACHED * self._epoch_updates
            self._least_updates["full"] = max(self._least_updates["full"], least)
        return turn

    def _full_fits(
        self, full_s: UpdateSeconds, keep: float, evaluation_s: float, before_s: Callable[[], float]
    ) -> bool:
        """Whether the full rung's least fits behind `before_s`, all passes of the cached one."""
        left = self.left_s() - evaluation_s
        updates = max(bounds.SPARE * self._least_updates["full"], bounds.LEAST_FULL_EPOCHS * self._epoch_updates)
        least_s = updates * self._least_update_s(keep)
        if "full" not in self._plan.rungs.value or least_s >= left:
            return False
        left -= before_s()
        return least_s < left and updates * full_s(keep) < left

    def _least_update_s(self, keep: float) -> float:
        """What a full update takes at the very least. Where not even that fits nothing is measured, since a measurement
        takes seconds, and the first one decodes the training rows."""
        return bounds.LEAST_PASSES * keep * self._update_images * self._image_s

    def full(self, update_s: UpdateSeconds, images: float) -> Turn | None:
        """The full rung's; no pace without a budget, where the plan's steps hold and checkpoints are written."""
        keep, steps, evaluation_s = self._share, self._plan.steps.value, images * self._image_s
        if not self.limited:
            evaluations = min(steps, self._recipe.train.evaluations)
            return Turn(None, keep, steps * update_s(keep) + evaluations * evaluation_s)
        left = self.left_s() - evaluation_s
        least_s = self._least_updates["full"] * self._least_update_s(min(keep, self._short_share))
        limits = bounds.Limits(steps, evaluation_s, self._recipe.train.evaluations, least_s)
        return self._limited("full", update_s, left, limits)

    def _limited(self, rung: str, update_s: UpdateSeconds, seconds: float, limits: bounds.Limits) -> Turn | None:
        """As many updates as fit into `seconds`, of which measuring takes its part, and at most those of `limits`. What
        they leave pays for evaluations on the way, of which the best is kept; the last one is paid for already."""
        keep, steps, each, left, started = self._share, 0, 0.0, seconds, time.monotonic()
        if seconds > limits.least_s:
            each = update_s(keep)
            few = seconds / each < bounds.FEW_EPOCHS * self._epoch_updates
            if few and self._short_share < keep < 1 and self._recipe.train.patches_kept == "auto":
                keep, each = self._short_share, update_s(self._short_share)
            seconds -= processes.agree(time.monotonic() - started)
            steps = max(0, int(seconds / each))
        if steps < min(self._least_updates[rung], limits.steps):
            logger.info("%s: %s are left, too few; not run", rung, format_seconds(max(0.0, left)))
            return None
        wanted = min(steps, limits.steps)
        evaluations = limits.evaluations(seconds - bounds.SLOWER * wanted * each)
        # The clock decides; 1.5 times the forecast's updates is only a bound.
        pace = Pace(min(round(1.5 * steps), limits.steps), seconds, evaluations)
        return Turn(pace, keep, wanted * each + evaluations * limits.evaluation_s)
