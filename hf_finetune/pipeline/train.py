"""The flow of a run, top to bottom: recipe → index → facts → plan → store → model → training → result → report.

Owns the order of things and nothing else; every step is a function of the component that it belongs to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import FinetuneError, HubError
from hf_finetune.machine.process import collect_as_usual
from hf_finetune.pipeline.climb import climb
from hf_finetune.pipeline.finish import keep_interrupted
from hf_finetune.pipeline.images import open_and_build
from hf_finetune.pipeline.model import describe
from hf_finetune.pipeline.prepare import claim_folder, prepare_run, settle_plan
from hf_finetune.plan.context import RunContext
from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.hub import Hub
from hf_finetune.recipe.recipe import Recipe, dump_recipe, load_recipe
from hf_finetune.report.run_json import as_run_report
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import (
    RunFolder,
    claim,
    full_disk_is_said,
    locked,
    refuse_changed_data,
    refuse_changed_start,
    refuse_other_extensions,
    write_plan,
)

if TYPE_CHECKING:
    from hf_finetune.hub.upload import Uploaded
    from hf_finetune.result.classifier import Classifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its report (run.json), and the model on demand."""

    folder: RunFolder
    report: Mapping[str, Any]

    @property
    def result(self) -> Path:
        """The adapter/ or model/ folder."""
        return self.folder.result(whole=as_run_report(self.report).whole)

    @property
    def model(self) -> Classifier:
        """The result, loaded: `.predict(images)`, `.model`, `.labels`."""
        from hf_finetune.result.classifier import load

        return load(self.result)

    def push(self, hub: Hub | None = None) -> list[Uploaded]:
        """Push the result to `hub.repo` (the recipe's, if None). Raises HubError; the run is safe in its folder."""
        from hf_finetune.hub.push import Push, push_run
        from hf_finetune.hub.stage import finished_run

        hub = hub or load_recipe(self.report["recipe"]).hub
        if hub.repo is None:
            raise HubError("hub.repo: a repo to push to is expected, and the recipe names none", "set it: user/name")
        try:
            return push_run(finished_run(self.folder.path), Push(hub.repo, hub.private, hub.merged))
        except FinetuneError as error:
            kept = f"The run is finished and safe in {self.folder.path}; `hf-finetune push {self.folder.path}` goes on."
            raise type(error)(error.message, f"{error.hint}\n  {kept}") from error

    @property
    def predictions(self) -> list[dict[str, str]]:
        """The test rows (validation's where there is no test split): name, label, predicted, probability."""
        from hf_finetune.report.predictions import read_predictions

        return read_predictions(self.folder.predictions)


def train(
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    data: Any = None,
    extensions: Extensions | None = None,
    started: float | None = None,
    push: bool = True,
) -> Run:
    """Run a recipe to its end, or go on with it where its run folder holds an unfinished run; push it if it says so.

    `data` replaces `recipe.data.name`: a datasets.Dataset or DatasetDict, a folder, or a list of (path, label). A
    finished run is not trained again. `budget.time` counts from `started` (as `time.time()`; None: from this call; the
    command line counts from the start of its process) to the saved result; the push comes after it. With `push=False`
    the recipe's `hub.repo` is left for `Run.push`. Raises FinetuneError.
    """
    from hf_finetune.machine import processes

    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if processes.is_first():
        from hf_finetune.hub.access import check_before_training

        check_before_training(recipe.hub, recipe.model.name, whole=recipe.adapter.whole)
    run = _train(recipe, data, extensions or Extensions(), started)
    if push and recipe.hub.repo is not None and processes.is_first():
        run.push(recipe.hub)
    return run


def _train(recipe: Recipe, data: Any, extensions: Extensions, started: float | None) -> Run:
    if data is None and RunFolder(recipe.output.folder).is_finished():
        folder = claim(recipe, write=False)
        refuse_other_extensions(folder, extensions.described())
        return _finished(folder)
    clock = Clock(started)
    logger.info("Reading data: %s", recipe.data.name if data is None else "in memory")
    with clock.stage("scan and imports"):
        context = prepare_run(recipe, data, extensions)
        from hf_finetune.machine import processes
        from hf_finetune.machine.process import keep_freed_memory

        if context.machine.device == "cpu":
            keep_freed_memory()
        processes.join(context.machine)
        context = settle_plan(context)
    first = context.machine.rank == 0
    folder = claim_folder(context.written)
    refuse_other_extensions(folder, extensions.described())
    if folder.is_finished():
        if data is not None:  # a name such as "a dataset in memory" does not tell one from another
            refuse_changed_data(folder, context.index)
        return _finished(folder)
    if not first:
        return _run(context, folder, clock)
    with locked(folder):
        refuse_changed_data(folder, context.index)
        refuse_changed_start(folder, context.start_digest)
        write_plan(folder, context.plan, context.index, context.start_digest, extensions.described())
        from hf_finetune.report.summary import render_plan

        logger.info("%s", render_plan(context.plan))
        return _run(context, folder, clock)


def _finished(folder: RunFolder) -> Run:
    from hf_finetune.report.run_json import read_report

    logger.info("%s is finished; nothing to do. Another output.dir starts a new run.", folder.path)
    return Run(folder, read_report(folder.report))


def _run(context: RunContext, folder: RunFolder, clock: Clock) -> Run:
    from hf_finetune.machine import processes
    from hf_finetune.machine.peak import PeakMemory
    from hf_finetune.pipeline.finish import assemble_report, evaluate_splits, publish, save_verified, staged_path
    from hf_finetune.report.run_json import read_report

    first = context.machine.rank == 0
    with PeakMemory() as peak:
        images, model = open_and_build(context, clock)
        context = settle_plan(context, images.store.rejected)
        collect_as_usual()
        store, rows = images.store, images.rows
        with clock.stage("model"):
            manifest = describe(context)
        with clock.stage("training"), full_disk_is_said(folder):
            climbed = climb(context, folder, images, model, manifest, clock, peak)
        with clock.stage("saving"), full_disk_is_said(folder):
            target = folder.result(whole=context.recipe.adapter.whole)
            staged = staged_path(target)
            verified = None
            if first:
                recipe_yaml = dump_recipe(context.recipe)
                verified = save_verified(model, target, manifest, recipe_yaml, rows["validation"], folder)
            if context.recipe.budget.time is None:
                verified = None  # the test is scored with float32 weights
            if climbed.interrupted:
                keep_interrupted(staged, target, climbed.best, first=first)
            del model
            processes.wait()
        try:
            with clock.stage("test"):
                results = evaluate_splits(staged, manifest, context, rows, climbed.answers, verified)
        except KeyboardInterrupt:
            keep_interrupted(staged, target, climbed.best, first=first)
    report = assemble_report(context, store, climbed, results, manifest, clock, peak)
    if first:
        publish(staged, target, report, folder, results, rows)
    processes.wait()
    return Run(folder, read_report(folder.report))
