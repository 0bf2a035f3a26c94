"""The flow of a run, top to bottom: recipe → index → facts → plan → images and model → ladder → result → report.

Owns the order of things and nothing else; every step is a function of the component that it belongs to.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_finetune.errors import FinetuneError
from hf_finetune.machine.launcher import refuse_engines
from hf_finetune.machine.lost_peer import lost_peers_are_said
from hf_finetune.pipeline.climb import climb
from hf_finetune.pipeline.data_faults.look_back import look_back
from hf_finetune.pipeline.finish import assemble_report, score_saved
from hf_finetune.pipeline.finished import Run, read_run, say_edited, say_touched
from hf_finetune.pipeline.images import open_and_build
from hf_finetune.pipeline.keep_features import keep_features
from hf_finetune.pipeline.model import describe, say_head
from hf_finetune.pipeline.pages.at_the_end import write_interrupted_page, write_page
from hf_finetune.pipeline.prepare import (
    claim_folder,
    join_processes,
    prepare_run,
    refuse_no_validation,
    settle_plan,
)
from hf_finetune.pipeline.publish import Ended, publish
from hf_finetune.pipeline.saving import InterruptedRun, calibrated, save_best
from hf_finetune.pipeline.track import tracked_run
from hf_finetune.pipeline.typical import typical_of
from hf_finetune.plan.context import RunContext
from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.report.fields import RunReport
from hf_finetune.result.split_record import write_record
from hf_finetune.run.began import (
    Began,
    began_with,
    refuse_changed_data,
    refuse_changed_images,
    refuse_changed_start,
    refuse_other_extensions,
    settle_base,
    write_plan,
)
from hf_finetune.run.clock import Clock
from hf_finetune.run.existing import settle_existing
from hf_finetune.run.folder import (
    RunFolder,
    claim,
    full_disk_is_said,
    locked,
)
from hf_finetune.run.kept_rungs import forget_rungs
from hf_finetune.run.replaced import nothing_replaced, put_back_on_failure

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    data: Any = None,
    extensions: Extensions | None = None,
    started: float | None = None,
    push: bool = True,
) -> Run:
    """Run a recipe to its end, or go on with it where its run folder holds an unfinished run; push it if it says so.

    `data` replaces `recipe.data.name` (see `hf_finetune.train`). A finished run is not trained again. `budget.time`
    counts from `started` (as `time.time()`; None: from this call; the command line counts from the start of its
    process) to the saved result; the push comes after it. With `push=False` the recipe's `hub.repo` is left for
    `Run.push`. Raises FinetuneError.
    """
    from hf_finetune.machine import processes

    refuse_engines()
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    recipe.tracking.check_installed()
    if processes.is_first():
        from hf_finetune.hub.access import check_before_training

        check_before_training(recipe.hub, recipe.model.name, whole=recipe.adapter.whole)
    with lost_peers_are_said():
        run = _train(recipe, data, extensions or Extensions(), started)
    if push and recipe.hub.repo is not None and processes.is_first():
        run.push(recipe.hub)
    return run


def _train(recipe: Recipe, data: Any, extensions: Extensions, started: float | None) -> Run:
    """Up to the plan, and who may go on with which folder."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    recipe, existing = settle_existing(recipe, count)
    # Several look together below: one that did not see the finished run would wait for the others.
    if data is None and count == 1 and existing == "resume" and RunFolder(recipe.output.folder).is_finished():
        folder = claim(recipe, write=False)
        refuse_other_extensions(folder, extensions.described())
        _look_again(recipe, folder)
        return _already_finished(folder)
    clock = Clock(started)
    with nothing_replaced(recipe, existing):
        logger.info("Reading data: %s", recipe.data.name if data is None else "in memory")
        with clock.stage("scan and imports"):
            context = prepare_run(recipe, data, extensions)
            refuse_no_validation(context.index)
            join_processes(context.machine, recipe.train.peer_timeout)
            context = settle_plan(context)
        folder = claim_folder(context.written, existing, context.index)
    refuse_other_extensions(folder, extensions.described())
    if folder.is_finished():
        if count > 1 or data is not None:  # a name such as "a dataset in memory" does not tell one from another
            refuse_changed_data(folder, context.index)
        return _already_finished(folder)
    if not context.machine.is_first:
        return _run(context, folder, clock, _began(context, None))
    with locked(folder), put_back_on_failure(folder):
        refuse_changed_data(folder, context.index)
        refuse_changed_start(folder, context.start_digest)
        began = _began(context, began_with(folder))
        with full_disk_is_said(folder):
            write_plan(folder, context.plan, began)
            write_record(folder.path, context.index, context.recipe.data.name, context.recipe.data.corrections)
        from hf_finetune.report.summary import render_plan
        from hf_finetune.report.understood import render_data

        logger.info("%s", render_data(context.index))
        logger.info("%s", render_plan(context.plan, brief=True))
        return _run(context, folder, clock, began)


def _began(context: RunContext, before: Began | None) -> Began:
    """What this run begins with, or what it began with `before`, as far as that is not known yet."""
    base, at_s = (None, time.time()) if before is None else (before.base, before.at_s)
    return Began(context.index.revision, context.start_digest, context.extensions.described(), base, at_s)


def _look_again(recipe: Recipe, folder: RunFolder) -> None:
    """Raise RunFolderError where a finished run's data are others by now, and say where they may be."""
    from hf_finetune.data.index.scan import scan

    try:
        index = scan(recipe.data, seed=recipe.train.seed, reading=recipe.task.reading)
    except FinetuneError as error:
        logger.info("Its data cannot be looked at now: %s", error.message)
        return
    refuse_changed_data(folder, index)
    say_touched(folder, index)


def _already_finished(folder: RunFolder) -> Run:
    from hf_finetune.result.load import refuse_damaged

    run = read_run(folder)
    refuse_damaged(run.result)
    say_edited(run)
    ways = "--extend trains on, --overwrite begins anew, --number takes the next free name"
    logger.info("%s is finished; nothing to do. %s (in a recipe: output.existing).", folder.path, ways)
    return run


def _run(context: RunContext, folder: RunFolder, clock: Clock, began: Began) -> Run:
    """From the plan to the report."""
    from hf_finetune.machine import processes
    from hf_finetune.machine.peak import PeakMemory
    from hf_finetune.machine.process import collect_as_usual

    with tracked_run(context, folder, clock) as tracked:
        with PeakMemory() as peak:
            images, (model, head), offer = open_and_build(context, folder, clock)
            context = replace(settle_plan(context, images.store.rejected), head=head)
            say_head(context)
            collect_as_usual()
            with clock.stage("model"):
                manifest = describe(context)
                began = replace(began, base=manifest.fingerprint)
                if context.machine.is_first:
                    refuse_changed_images(folder, images.changed_s)
                    with full_disk_is_said(folder):
                        settle_base(folder, context.plan, began, context.recipe.model.name)
            with clock.stage("training"), full_disk_is_said(folder):
                climbed = climb(context, folder, images, model, manifest, clock, peak, offer, tracked, began)
                manifest = calibrated(manifest, climbed, context, images.rows["validation"])
                typical = typical_of(context, climbed, model, images)
                climbed = replace(climbed, suffix_features=None)  # it holds the model, which is let go below
            try:
                with clock.stage("saving"), full_disk_is_said(folder):
                    saved = save_best(context, folder, climbed, model, manifest, images.rows, typical)
                    del model  # before a second one is loaded, which the test is scored with
                with clock.stage("test"):
                    results = score_saved(context, saved, climbed, manifest, images.rows)
            except InterruptedRun:
                if context.machine.is_first:
                    write_interrupted_page(context, climbed, manifest, images, folder, clock, peak)
                raise
        tracked.test(results["test"].metrics if "test" in results else {})
        if context.machine.is_first:
            with clock.stage("findings"):
                findings = look_back(context, images, climbed, results, clock)
            report = assemble_report(context, images.store, climbed, results, manifest, clock, peak, findings)
            ended = Ended(report, results, images.rows, manifest.target)
            with full_disk_is_said(folder):
                publish(saved, ended, folder)
            forget_rungs(folder.checkpoints)
            keep_features(context, folder, climbed, images, manifest, clock)
            _keep_speeds(context, report)
            write_page(context, ended, folder, clock)
    processes.wait()
    return read_run(folder)


def _keep_speeds(context: RunContext, report: RunReport) -> None:
    """For the next plan on this machine."""
    from hf_finetune.ladder.forecast import speeds_of
    from hf_finetune.run.speeds import keep_speeds

    counts = report.data["counts"]
    rows = counts["train"] + counts["validation"]
    args = (context.plan, context.recipe, context.machine, context.facts)
    keep_speeds(speeds_of(*args, rows, report.rungs, report.seconds["total"]))
