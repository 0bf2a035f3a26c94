"""What a run needs before anything is decoded or loaded: index, machine, facts, plan, and its folder.

Shared by training, `plan`, `rank` and `lr-find`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import AdapterError, DataError, FinetuneError, RecipeError
from hf_finetune.pipeline.start_rows import tell_trained_rows
from hf_finetune.plan.context import RunContext
from hf_finetune.plan.counted import Counter
from hf_finetune.plan.extensions import Extensions
from hf_finetune.plan.plan import make_plan
from hf_finetune.quantizers.checks import describe_left_out
from hf_finetune.recipe.recipe import Existing, Recipe
from hf_finetune.result.manifest import FILE, read_manifest
from hf_finetune.run.existing import make_way
from hf_finetune.run.folder import RunFolder, claim
from hf_finetune.run.replaced import put_back_on_failure
from hf_finetune.run.shared import leave_mark, refuse_unshared
from hf_finetune.tasks import settled
from hf_finetune.tracking.config import PROCESS_BYTES
from hf_finetune.types import BackboneFacts, Index, Machine, Rejected, label_array

if TYPE_CHECKING:
    from hf_finetune.adapters.starting.start import Start

logger = logging.getLogger(__name__)


def prepare_run(
    recipe: Recipe, data: Any = None, extensions: Extensions | None = None, device: str | None = None
) -> RunContext:
    """Everything up to the plan. Raises the errors of a recipe that this machine or these data cannot serve.

    `data` (of a notebook) replaces the recipe's, and is named in it; `extensions` are tried on something small.
    `device`: another machine to plan for, such as `cuda:8GB`.
    """
    from hf_finetune.data.index.scan import index_of, scan

    seed = recipe.train.seed
    reading = recipe.task.reading
    if data is None:
        index = scan(recipe.data, seed=seed, reading=reading)
    else:
        index = index_of(data, recipe.data, seed=seed, reading=reading)
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": index.source})})
    written = recipe
    recipe, index = settle_task(recipe, index)
    from hf_finetune.backbones.facts import read_facts
    from hf_finetune.machine.described import described
    from hf_finetune.machine.detect import detect
    from hf_finetune.machine.peak import anonymous_bytes

    machine = detect(recipe.budget.memory) if device is None else described(device, recipe.budget.memory)
    if recipe.tracking.to and machine.device == "cpu" and recipe.budget.memory is None:
        left = machine.device_memory_bytes - PROCESS_BYTES  # the trackers' own process takes it from the same memory
        machine = replace(machine, device_memory_bytes=max(PROCESS_BYTES, left))
    classes = len(index.labels.names)
    facts = read_facts(recipe.model, classes)
    extensions = extensions or Extensions()
    target = settled(recipe.task, index).settle(index)
    some = None if index.of_classes else label_array(index.splits["train"][:4])
    extensions.check(recipe, facts, classes, some, target.chosen_by)
    recipe.quantization.check(facts, machine)
    note = describe_left_out(recipe.quantization.kind, facts, recipe.quantization.left_out(facts))
    if note is not None:
        logger.warning("%s", note)
    recipe, start = follow_start(recipe, facts, index.labels.names)
    index = tell_trained_rows(index, recipe, start)
    from hf_finetune.ladder.forecast import with_seconds

    count = counter_for(recipe, facts, classes)
    machine = replace(machine, process_bytes=anonymous_bytes()) if device is None else machine
    plan = with_seconds(make_plan(recipe, machine, facts, index, count), recipe, machine, facts, index)
    for note in extensions.idle(plan.rungs.value):
        logger.warning("%s, which the ladder of this run leaves out: it is not called.", note)
    index, facts = settle_pixels(index, facts, recipe, plan.decode_workers.value)
    return RunContext(recipe, index, machine, facts, plan, written, start, extensions, count=count)


def settle_task(recipe: Recipe, index: Index) -> tuple[Recipe, Index]:
    """The recipe with the task that the data ask for and the metric that it is judged by, and the index with the
    model's outputs as its labels. Raises RecipeError for another task's metric, DataError for labels of no use."""
    task, by = settled(recipe.task, index), recipe.train.best_by
    target = task.settle(index)
    if by != "auto" and by not in target.chosen_by:
        raise RecipeError(
            f"train.best_by: for task.kind={task.kind} one of {', '.join(target.chosen_by)} is expected, found {by}.",
            "Leave it out, and the first of these chooses.",
        )
    if recipe.train.sampler == "balanced" and [each.kind for each in index.columns] not in (["classes"], ["grades"]):
        raise RecipeError(
            f"train.sampler: classes or grades to balance are expected, found task.kind={task.kind}.",
            "Leave it out (shuffle)"
            + ("; task.positive_weights=auto is for rare labels." if task.kind == "multilabel" else "."),
        )
    if by == "auto":
        by = "balanced_accuracy" if recipe.balances and task.kind == "classification" else target.chosen_by[0]
    train = recipe.train.model_copy(update={"best_by": by})
    return recipe.model_copy(update={"task": task, "train": train}), replace(index, labels=target.outputs)


def counter_for(recipe: Recipe, facts: BackboneFacts, labels: int) -> Counter:
    """What counts the bytes of a step of the recipe's backbone. Imports what the count takes, as the run will."""
    import peft  # noqa: F401 - it is part of the process, whose bytes are measured next

    from hf_finetune.backbones.build import read_config
    from hf_finetune.backbones.checkpoint import find

    return Counter(facts, read_config(find(recipe.model)), labels)


def refuse_no_validation(index: Index) -> None:
    """Raises DataError where no row is there to choose the best rung by."""
    if not index.splits.get("validation"):
        raise DataError(
            "data.validation_share: rows for validation are needed to keep the best rung, found none given or cut",
            "set data.validation_share above 0, or data.validation_split to a given split",
        )


def settle_pixels(index: Index, facts: BackboneFacts, recipe: Recipe, workers: int) -> tuple[Index, BackboneFacts]:
    """The same with the scale of the data set's high-bit grey images, if it holds any, and notes on it."""
    from hf_finetune.data.value_range import settle_value_range

    value_range, notes = settle_value_range(index, recipe.data, workers)
    preprocess = replace(facts.preprocess, value_range=value_range)
    return replace(index, notes=(*index.notes, *notes)), replace(facts, preprocess=preprocess)


def join_processes(machine: Machine, peer_timeout_s: float) -> None:
    """Meet the other processes of this launch."""
    from hf_finetune.machine import processes

    processes.join(machine, peer_timeout_s)


def settle_plan(context: RunContext, unreadable: Sequence[Rejected] = ()) -> RunContext:
    """The plan for the rows that can be read, the same on all processes: the one of the process with the least memory.

    Called twice: once the processes have met, and once the images have been decoded. A run's plan changes nowhere else.
    """
    from hf_finetune.machine import processes

    if unreadable:
        gone = {(row.split, row.name) for row in unreadable}
        splits = {
            split: tuple(row for row in rows if (split, row.name) not in gone)
            for split, rows in context.index.splits.items()
        }
        what = (
            "1 unreadable image is left out:"
            if len(gone) == 1
            else f"{len(gone):,} unreadable images are left out, such as"
        )
        logger.warning("%s %s.", what, unreadable[0].name)
        index = replace(context.index, splits=splits)
        plan = replace(
            make_plan(context.recipe, context.machine, context.facts, index, context.count),
            seconds=context.plan.seconds,
            seconds_note=context.plan.seconds_note,
            seconds_limit=context.plan.seconds_limit,
        )
        context = replace(context, index=index, plan=plan)
    plans = processes.gather(context.plan)
    return replace(context, plan=min(plans, key=lambda each: (-each.checkpointing.value, each.micro_batch.value)))


def follow_start(recipe: Recipe, facts: BackboneFacts, labels: tuple[str, ...]) -> tuple[Recipe, Start | None]:
    """The recipe with what the adapter of `adapter.from` decides, and that adapter. Raises AdapterError."""
    lora = recipe.adapter
    if lora.kind != "lora" or lora.start is None:
        return recipe, None
    from hf_finetune.adapters.starting.fetch import fetch_adapter
    from hf_finetune.adapters.starting.start import follow, read_start
    from hf_finetune.backbones.checkpoint import unquantized_origin
    from hf_finetune.backbones.renamed_modules import module_names

    fetched = fetch_adapter(lora.start)
    ours = (fetched.folder / FILE).is_file()
    manifest = read_manifest(fetched.folder) if ours else None
    if manifest is not None and manifest.task["kind"] != recipe.task.kind:
        raise AdapterError(
            f"adapter.from: an adapter for task.kind={recipe.task.kind} is expected, found one for "
            f"{manifest.task['kind']} in {lora.start}.",
            "Name another, or leave adapter.from out; task.kind says how these labels are learnt.",
        )
    base = None if manifest is None else manifest.fingerprint
    start = read_start(fetched, facts, module_names(recipe.model), labels, base, unquantized_origin)
    return recipe.model_copy(update={"adapter": follow(lora, start, facts)}), start


def claim_folder(recipe: Recipe, existing: Existing, index: Index) -> RunFolder:
    """The run folder, which rank 0 makes, or makes way in, before the others look.

    Raises RunFolderError, on every rank the same.
    """
    from hf_finetune.machine import processes

    problem, mark = None, None
    try:
        if processes.is_first():
            with put_back_on_failure(RunFolder(recipe.output.folder)):
                make_way(recipe, existing, index)
                folder = claim(recipe)
            mark = leave_mark(folder) if processes.are_several() else None
    except FinetuneError as error:
        problem = error
    problem, mark = processes.agree((problem, mark))
    if problem is not None:
        raise problem
    folder = RunFolder(recipe.output.folder)
    if mark is not None:
        refuse_unshared(folder, mark)
    try:
        claim(recipe, write=False)
    except FinetuneError as error:  # another recipe than rank 0's, or other overrides of it
        problem = error
    for each in processes.gather(problem):
        if each is not None:
            raise each
    return folder
