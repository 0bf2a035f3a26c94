"""The flow of a run, top to bottom: recipe → index → facts → plan → store → model → training → result → report.

Owns the order of things and nothing else; every step is a function of the component that it belongs to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hf_finetune.collector import collect_as_usual
from hf_finetune.errors import DataError, FinetuneError, HubError, RunFolderError
from hf_finetune.hub import Hub
from hf_finetune.images import Images, cache_of, open_images
from hf_finetune.ready import Prepared, build_model, describe, make_ready
from hf_finetune.recipe import Recipe, dump_recipe, load_recipe
from hf_finetune.report.clock import Clock
from hf_finetune.run_folder import (
    RunFolder,
    claim,
    full_disk_is_said,
    locked,
    refuse_changed_data,
    refuse_changed_start,
    write_plan,
)

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.data.pool import WorkerPool
    from hf_finetune.hub.upload import Uploaded
    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.loading import Classifier
    from hf_finetune.manifest import Manifest
    from hf_finetune.peak import PeakMemory
    from hf_finetune.types import Candidate, Plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its report (run.json), and the model on demand."""

    folder: RunFolder
    report: Mapping[str, Any]

    @property
    def result(self) -> Path:
        """The adapter/ or model/ folder."""
        return self.folder.result(self.report["recipe"]["adapter"]["kind"])

    @property
    def model(self) -> Classifier:
        """The result, loaded: `.predict(images)`, `.model`, `.labels`."""
        from hf_finetune.loading import load

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
    started: float | None = None,
    push: bool = True,
) -> Run:
    """Run a recipe to its end, or go on with it where its run folder holds an unfinished run; push it if it says so.

    `data` replaces `recipe.data.name`: a datasets.Dataset or DatasetDict, a folder, or a list of (path, label). A
    finished run is not trained again. `budget.time` counts from `started` (as `time.time()`; None: from this call; the
    command line counts from the start of its process) to the saved result; the push comes after it. With `push=False`
    the recipe's `hub.repo` is left for `Run.push`. Raises FinetuneError.
    """
    from hf_finetune import processes

    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if processes.is_first():
        from hf_finetune.hub.access import check_before_training

        check_before_training(recipe.hub, recipe.model.name, whole=recipe.adapter.kind == "full")
    run = _train(recipe, data, started)
    if push and recipe.hub.repo is not None and processes.is_first():
        run.push(recipe.hub)
    return run


def _train(recipe: Recipe, data: Any, started: float | None) -> Run:
    if data is None and RunFolder(recipe.output.folder).is_finished():
        return _finished(claim(recipe, write=False))
    clock = Clock(started)
    logger.info("Reading data: %s", recipe.data.name if data is None else "in memory")
    with clock.stage("scan and imports"):
        ready = make_ready(recipe, data)
        from hf_finetune import processes
        from hf_finetune.allocator import keep_freed_memory

        if ready.machine.device == "cpu":
            keep_freed_memory()
        processes.join(ready.machine)
        ready = replace(ready, plan=agreed_plan(ready.plan))
    first = ready.machine.rank == 0
    folder = _claimed(ready.written)
    if folder.is_finished():
        if data is not None:  # a name such as "a dataset in memory" does not tell one from another
            refuse_changed_data(folder, ready.index)
        return _finished(folder)
    if not first:
        return _run(ready, folder, clock)
    with locked(folder):
        refuse_changed_data(folder, ready.index)
        refuse_changed_start(folder, ready.start_digest)
        write_plan(folder, ready.plan, ready.index, ready.start_digest)
        from hf_finetune.report.summary import render_plan

        logger.info("%s", render_plan(ready.plan))
        return _run(ready, folder, clock)


def agreed_plan(plan: Plan) -> Plan:
    """The plan of the process with the least memory, on all: each has planned by its own, and batches must agree."""
    from hf_finetune import processes

    return min(processes.gather(plan), key=lambda each: (not each.checkpointing.value, each.micro_batch.value))


def _claimed(recipe: Recipe) -> RunFolder:
    """The run folder, which rank 0 makes before the others look. Raises RunFolderError, on every rank the same."""
    from hf_finetune import processes

    problem = None
    try:
        if processes.is_first():
            claim(recipe)
    except FinetuneError as error:
        problem = error
    problem = processes.agree(problem)
    if problem is not None:
        raise problem
    folder = claim(recipe, write=False)
    if not folder.recipe.is_file():
        raise RunFolderError(
            f"output.dir: {folder.path} is not the folder that the first process has made.",
            "Name a folder on storage that all machines share.",
        )
    return folder


def _finished(folder: RunFolder) -> Run:
    from hf_finetune.report.run_json import read_report

    logger.info("%s is finished; nothing to do. Another output.dir starts a new run.", folder.path)
    return Run(folder, read_report(folder.report))


def _run(ready: Prepared, folder: RunFolder, clock: Clock) -> Run:
    from hf_finetune import processes
    from hf_finetune.finishing import assemble_report, evaluate_splits, publish, save_verified, staged_path
    from hf_finetune.peak import PeakMemory
    from hf_finetune.report.run_json import read_report

    first = ready.machine.rank == 0
    with PeakMemory() as peak:
        ready, images, model = _open_and_build(ready, clock)
        ready = replace(ready, plan=agreed_plan(ready.plan))  # planned anew where images could not be read
        collect_as_usual()
        store, rows = images.store, images.rows
        with clock.stage("model"):
            manifest = describe(ready)
        with clock.stage("training"), full_disk_is_said(folder):
            climbed = _climb(ready, folder, images, model, manifest, clock, peak)
        with clock.stage("saving"), full_disk_is_said(folder):
            target = folder.result(ready.recipe.adapter.kind)
            staged = staged_path(target)
            verified = None
            if first:
                recipe_yaml = dump_recipe(ready.recipe)
                verified = save_verified(model, target, manifest, recipe_yaml, rows["validation"], folder)
            if ready.recipe.budget.time is None:
                verified = None  # the test is scored with float32 weights
            if climbed.interrupted:
                keep_interrupted(staged, target, climbed.best, first=first)
            del model
            processes.wait()
        try:
            with clock.stage("test"):
                results = evaluate_splits(staged, manifest, ready, rows, climbed.best_answers, verified)
        except KeyboardInterrupt:
            keep_interrupted(staged, target, climbed.best, first=first)
    report = assemble_report(ready, store, climbed, results, manifest, clock, peak)
    if first:
        publish(staged, target, report, folder, results, rows)
    processes.wait()
    return Run(folder, read_report(folder.report))


def _open_and_build(ready: Prepared, clock: Clock) -> tuple[Prepared, Images, nn.Module]:
    """Images and model, at the same time: rows that cannot be read change counts in the plan, not the model.

    A stock processor decodes in this process and could not be interrupted in a thread, so that it comes first.
    """

    from hf_finetune.data.ahead import ahead

    def open_timed(pool: WorkerPool | None) -> tuple[Prepared, Images]:
        with clock.stage("images"):
            return open_images(ready, pool)

    def build() -> nn.Module:
        with clock.stage("model"):
            return build_model(ready)

    if ready.facts.preprocess.steps is None:
        return *open_timed(None), build()
    with ahead(open_timed, ready.plan.decode_workers.value) as opened:
        model = build()
        import hf_finetune.ladder.climb  # noqa: F401 - what training imports, while images decode

        return *opened(), model


def _climb(
    ready: Prepared,
    folder: RunFolder,
    images: Images,
    model: nn.Module,
    manifest: Manifest,
    clock: Clock,
    peak: PeakMemory,
) -> Climbed:
    from hf_finetune import processes
    from hf_finetune.checkpoints import newest_whole, seal
    from hf_finetune.ladder.budget import Budget
    from hf_finetune.ladder.choose import Chooser
    from hf_finetune.ladder.climb import Climber
    from hf_finetune.ladder.hidden import identity_of
    from hf_finetune.training.fit import FitFolders

    if not len(images.rows.get("validation", ())):
        raise DataError(
            "A validation split is needed to keep the best checkpoint, and none is given or cut.",
            "Set data.validation_share above 0, or data.validation_split.",
        )
    resume = processes.agree(newest_whole(folder.checkpoints) if ready.machine.rank == 0 else None)
    if resume is not None:
        logger.info("Going on from %s.", resume)
    seconds = ready.recipe.budget.time
    # Rank 0 loads the result to verify it and scores the test with that; the others load theirs afterwards.
    load_s = clock.seconds["model"] * min(2, ready.machine.world_size)
    budget = Budget(seconds, clock.total, load_s, len(images.rows.get("test", ()))) if seconds else None
    folders = FitFolders(folder.checkpoints, folder.metrics, seal, resume)
    identity = identity_of(manifest, ready.plan, ready.start_digest)
    chooser = Chooser(model, ready.recipe.train.best_by, ready.plan.device.value, peak, clock.total)
    climber = Climber(model, ready, images.rows, images.probe_rows, folders, cache_of(ready), identity, budget, chooser)
    return climber.climb()


class InterruptedRun(KeyboardInterrupt):
    """The run was interrupted, and the best rung so far is saved. The text says where."""


def keep_interrupted(staged: Path, target: Path, best: Candidate, *, first: bool) -> NoReturn:
    """Put the best rung's verified result in place and end; the same command goes on with the run."""
    from hf_finetune.saving import publish_locally

    if first:
        publish_locally(staged, target)
    raise InterruptedRun(f"interrupted; the best rung so far ({best.rung}) is saved in {target}")
