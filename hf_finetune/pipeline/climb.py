"""The ladder, climbed with what a run has: its images, its folder, and what is left of its time."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from hf_finetune.errors import DataError
from hf_finetune.pipeline.images import Images, features_place
from hf_finetune.pipeline.saving import save_meanwhile
from hf_finetune.pipeline.track import CLOSING_S
from hf_finetune.pipeline.typical import rows_to_pass
from hf_finetune.plan.context import RunContext
from hf_finetune.run.began import Began
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.backbones.engines.choose import Offer
    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.machine.peak import PeakMemory
    from hf_finetune.result.manifest import Manifest
    from hf_finetune.tracking.run import TrackedRun

logger = logging.getLogger(__name__)


def climb(
    context: RunContext,
    folder: RunFolder,
    images: Images,
    model: nn.Module,
    manifest: Manifest,
    clock: Clock,
    peak: PeakMemory,
    offer: Offer,
    tracked: TrackedRun,
    began: Began,
) -> Climbed:
    """Every rung that fits, or what is left of them where the folder holds a checkpoint. Raises DataError.

    `offer`: an engine that may run the probe's pass. `tracked` hears of rungs and updates. `began`: what checkpoints
    are marked with. Each rung that is the best so far is in the run folder as soon as it is there: whatever ends the
    run, that can be used.
    """
    from hf_finetune.ladder.candidates import Usage
    from hf_finetune.ladder.climb import Climber, Given
    from hf_finetune.ladder.pacing import TimeLeft
    from hf_finetune.machine import processes
    from hf_finetune.run.checkpoints import is_sound, newest_whole, seal_and_thin_out
    from hf_finetune.run.kept_rungs import KeptRungs
    from hf_finetune.training.fit import FitFolders

    if not len(images.rows.get("validation", ())):
        raise DataError("data.name: no validation image could be read", "mend them, or give another validation split")
    resume = processes.agree(newest_whole(folder.checkpoints) if context.machine.is_first else None)
    if resume is not None:
        logger.info("Going on from %s.", resume)
    if folder.result(whole=False).exists():  # of an earlier try; `save_meanwhile` speaks of the first model alone
        logger.info("Usable meanwhile: hf-finetune predict %s IMAGE", folder.path)
    seconds = context.recipe.budget.time
    # Rank 0 loads the result to verify it and scores the test with that; the others load theirs afterwards.
    load_s = clock.seconds["model"] * min(2, context.machine.world_size)
    test, typical = len(images.rows.get("test", ())), sum(rows_to_pass(images, seconds))
    closing_s = CLOSING_S if tracked.is_followed else 0.0
    given = Given(
        rows=images.rows,
        probe_rows=images.probe_rows,
        features=features_place(context, manifest, folder),
        folders=FitFolders(
            folder.checkpoints,
            folder.metrics,
            partial(seal_and_thin_out, of=asdict(began)),
            is_sound,
            resume,
            tracked.log if tracked.is_followed else None,
        ),
        time=TimeLeft(seconds, clock.total, load_s + closing_s, test, typical) if seconds else None,
        usage=Usage(clock.total, peak),
        offer=offer,
        tracked=tracked,
        save=lambda climbed: save_meanwhile(climbed, context, folder, model, manifest, images),
        kept=KeptRungs(folder.checkpoints if context.machine.is_first else None, asdict(began)),
    )
    return Climber(model, context, given).climb()
