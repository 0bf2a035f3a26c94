"""The plan: everything the recipe leaves open, decided by arithmetic from facts, each value with its reason.

Pure: no torch, no files, no clock. Every constant names its source or is labelled an assumption.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hf_finetune.backbones.own_head import match_head
from hf_finetune.errors import MachineError
from hf_finetune.plan import rates
from hf_finetune.plan.arithmetic import activations_of, compute_of, engine_of
from hf_finetune.plan.counted import Count, uncounted
from hf_finetune.plan.fitting import NoFitError, fit, limiting_budget, room_of, smallest
from hf_finetune.plan.forecast import DataSize, Forecast, eval_batch, forecast
from hf_finetune.plan.remedies import remedies, say
from hf_finetune.plan.stream import plan_stream, streamed_bytes
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Decision, Index, Machine, Plan
from hf_finetune.units import format_bytes

# Images to show to the model in all, where the recipe says `epochs: auto`. Assumption from runs on TrashNet and digits
# (docs/experiments.md, "Quickstart" and "The main job on real photos"): small sets need repeating, large ones do not.
AUTO_IMAGES = 20_000
AUTO_EPOCHS = (3, 30)


def make_plan(recipe: Recipe, machine: Machine, facts: BackboneFacts, index: Index, count: Count = uncounted) -> Plan:
    """Decide what the recipe leaves `auto`. `count` gives the bytes of a step (counted.py).

    Raises MachineError where the recipe cannot fit the machine at any setting, with the changes that make it fit.
    """
    _check_dora(recipe, machine)
    train = recipe.train
    trainable = recipe.adapter.trainable_parameters(facts, len(index.labels.names))
    rows = len(index.splits["train"])
    precision = _precision(recipe, machine)
    batch = _effective_batch(train.effective_batch_size, rows, machine.world_size)
    share = batch.value // machine.world_size
    patches = _patches_kept(recipe)
    size = DataSize(len(index.labels.names), sum(map(len, index.splits.values())))
    weigh = forecast(recipe, machine, facts, trainable, precision.value, share, patches.value, count, size)
    weigh, stream = _as_streamed(weigh, recipe, machine, facts)
    try:
        checkpointing, micro = fit(recipe, machine, facts, weigh, share)
    except NoFitError as error:
        raise _with_remedies(error, recipe, machine, facts, size, share, count) from None
    steps_per_epoch = max(1, rows // batch.value)
    epochs = _epochs(train.epochs, rows)
    steps = max(1, round(steps_per_epoch * epochs.value))
    processes = "one process" if machine.world_size == 1 else f"{machine.world_size} processes"
    return Plan(
        device=Decision(machine.device, f"{machine.device_name}, {processes}"),
        precision=precision,
        effective_batch=batch,
        micro_batch=micro,
        accumulation=Decision(math.ceil(share / micro.value), f"{share} images a process and update"),
        eval_batch=_eval_batch(train.eval_batch, micro.value, machine),
        checkpointing=checkpointing,
        decode_workers=_workers(train.decode_workers, machine),
        store=Decision("decoded once", f"{format_bytes(_store_bytes(index, facts))} of uint8 pixels"),
        train_side=_train_side(facts),
        epochs=epochs,
        steps=Decision(steps, f"{rows} rows // {batch.value} = {steps_per_epoch} updates an epoch"),
        warmup_steps=Decision(round(train.warmup_share * steps), f"train.warmup_share {train.warmup_share:g}"),
        learning_rate=rates.learning_rate(recipe, batch.value),
        trainable_parameters=Decision(trainable, f"{trainable / facts.parameters:.1%} of the backbone's"),
        rungs=_rungs(recipe),
        suffix_blocks=_suffix_blocks(facts),
        suffix_learning_rate=rates.suffix_learning_rate(recipe, facts, batch.value, rows),
        patches_kept=patches,
        head=_head(recipe, facts, index),
        compute=compute_of(recipe, facts, machine.device),
        activations=activations_of(recipe, machine.device),
        engine=engine_of(recipe, machine),
        stream=stream,
        memory_bytes=weigh.parts(micro.value, checkpointing.value),
        memory_note=_memory_note(weigh, micro.value, checkpointing.value),
    )


def bytes_at(
    recipe: Recipe, machine: Machine, facts: BackboneFacts, index: Index, plan: Plan, count: Count = uncounted
) -> int:
    """What another recipe takes at the micro-batch and recomputed blocks of a plan. Raises what refuses the recipe."""
    size = DataSize(len(index.labels.names), sum(map(len, index.splits.values())))
    weigh = _weigh(recipe, machine, facts, size, plan.effective_batch.value // machine.world_size, count)
    return sum(weigh.parts(plan.micro_batch.value, plan.checkpointing.value).values())


def _weigh(
    recipe: Recipe, machine: Machine, facts: BackboneFacts, size: DataSize, share: int, count: Count
) -> Forecast:
    recipe.quantization.check(facts, machine)
    _check_dora(recipe, machine)
    trainable = recipe.adapter.trainable_parameters(facts, size.outputs)
    precision, patches = _precision(recipe, machine).value, _patches_kept(recipe).value
    weigh = forecast(recipe, machine, facts, trainable, precision, share, patches, count, size)
    return _as_streamed(weigh, recipe, machine, facts)[0]


def _with_remedies(
    error: NoFitError, recipe: Recipe, machine: Machine, facts: BackboneFacts, size: DataSize, share: int, count: Count
) -> MachineError:
    """The same with the changes that make it fit, each computed as the plan's own."""

    def least(other: Recipe) -> int:
        weigh = _weigh(other, machine, facts, size, share, count)
        return weigh.total(*smallest(other, facts, weigh, share))

    weigh = _weigh(recipe, machine, facts, size, share, count)
    needed, process = weigh.total(*smallest(recipe, facts, weigh, share)), weigh.fixed.get("process", 0)
    found = remedies(recipe, machine.device, room_of(machine), least)
    return MachineError(error.message, say(found, needed, limiting_budget(recipe, machine), process))


def _memory_note(weigh: Forecast, micro_batch: int, recomputed: int) -> str:
    expected = sum(weigh.parts(micro_batch, recomputed).values())
    most = weigh.total(micro_batch, recomputed)
    more = f"{format_bytes(most)} where the head needs all patches" if most > 1.02 * expected else ""
    return "; ".join(each for each in (weigh.note, more) if each)


def _as_streamed(
    weigh: Forecast, recipe: Recipe, machine: Machine, facts: BackboneFacts
) -> tuple[Forecast, Decision[str]]:
    """Whether frozen weights are brought in block by block, and the forecast with that, of the reloaded model too."""
    frozen = weigh.fixed.get("frozen weights", 0)
    stream = plan_stream(recipe, machine, facts, frozen, room_of(machine))
    if stream.value == "off":
        return weigh, stream
    fixed = {**weigh.fixed, "frozen weights": streamed_bytes(facts, frozen, machine.device)}
    fixed = {part: size for part, size in fixed.items() if size and part != "reloaded model"}
    return replace(weigh, fixed=fixed), stream


def _check_dora(recipe: Recipe, machine: Machine) -> None:
    # peft 0.21.2 puts an int8 weight back on the CPU after each pass, and its scales are lost (bitsandbytes 0.50.2). We
    # keep them (backbones/quantized.py); stock code would predict for one batch, and raise at the next.
    adapter = recipe.adapter
    if machine.device == "cpu" and recipe.quantization.kind == "int8" and adapter.kind == "lora" and adapter.dora:
        raise MachineError(
            "adapter.dora: on CPUs stock peft and bitsandbytes cannot compute DoRA on int8 layers a second time.",
            "Set quantization.kind to nf4 or none, or adapter.dora to false.",
        )


def _precision(recipe: Recipe, machine: Machine) -> Decision[str]:
    wanted = recipe.train.precision
    if wanted == "fp16" and machine.device != "cuda":
        raise MachineError(f"train.precision: fp16 needs a CUDA device, found {machine.device}.", "Use auto or fp32.")
    if wanted == "bf16" and machine.device == "cuda" and not machine.bf16:
        raise MachineError(f"train.precision: {machine.device_name} has no bfloat16.", "Use auto, fp16 or fp32.")
    if wanted != "auto":
        return Decision(wanted, "as the recipe says")
    if machine.bf16:
        return Decision("bf16", f"{machine.device_name} multiplies bfloat16 in hardware")
    if machine.device == "cuda":
        return Decision("fp16", f"{machine.device_name} has no bfloat16; losses are scaled")
    return Decision("fp32", "no bfloat16 in hardware")


# Images an update. Short runs are short of updates: on held-out photos of TrashNet (two cuts), two passes of the cached
# rung gave .888 with updates of 64, .904 with 32; five passes .924 and .918, and neither is clearly better on smaller
# data sets (docs/experiments.md, "Settings of the cached rung"). With many rows larger updates use a device better.
SMALL_BATCH, LARGE_BATCH = 32, 64
MANY_ROWS = 5_000  # assumption


def _effective_batch(wanted: int | str, rows: int, world_size: int) -> Decision[int]:
    if isinstance(wanted, str):
        planned = SMALL_BATCH if rows < MANY_ROWS else LARGE_BATCH
        wanted = math.ceil(planned / world_size) * world_size
        reason = f"over all processes; {SMALL_BATCH} below {MANY_ROWS:,} training rows, else {LARGE_BATCH}"
    else:
        reason = "train.effective_batch_size, over all processes"
    if wanted % world_size:
        below = wanted // world_size * world_size
        raise MachineError(
            f"train.effective_batch_size is {wanted}, which {world_size} processes cannot share equally.",
            f"Set it to {below or world_size} or {below + world_size}.",
        )
    if rows >= wanted:
        return Decision(wanted, reason)
    fitting = rows // world_size * world_size
    if fitting == 0:
        raise MachineError(f"{rows} training rows cannot be shared by {world_size} processes.", "Use fewer processes.")
    return Decision(fitting, f"an update of {wanted} is wanted, but there are only {rows} training rows")


def _epochs(wanted: float | str, rows: int) -> Decision[float]:
    if not isinstance(wanted, str):
        return Decision(wanted, "as the recipe says")
    low, high = AUTO_EPOCHS
    epochs = min(high, max(low, math.ceil(AUTO_IMAGES / rows)))
    return Decision(epochs, f"{AUTO_IMAGES:,} images in all over {rows} rows, between {low} and {high} epochs")


def _rungs(recipe: Recipe) -> Decision[tuple[str, ...]]:
    if recipe.budget.time == 0:
        return Decision(("probe",), "budget.time 0: the probe alone")
    if recipe.ladder != "auto":
        return Decision(tuple(recipe.ladder), "as the recipe says")
    if not recipe.adapter.trains_suffix:
        return Decision(("probe", "full"), f"adapter.kind {recipe.adapter.kind} trains no suffix")
    return Decision(("probe", "cached", "full"), "each kept only if better on validation")


# Share of the blocks that the cached rung trains. Measured on TrashNet with ViT-Tiny (2026-11-23, 20 s of training, one
# seed): the last 4 of 12 blocks .891, 6 .905, 9 .896.
SUFFIX_SHARE = 0.5
# PatchDropout (Liu et al. 2022, arXiv 2208.07220) loses under a point at half of the patches and halves the step.
PATCHES_KEPT = 0.5


def _suffix_blocks(facts: BackboneFacts) -> Decision[int]:
    count = math.ceil(SUFFIX_SHARE * len(facts.blocks))
    return Decision(count, f"the last of {len(facts.blocks)} blocks, for the cached rung")


def _patches_kept(recipe: Recipe) -> Decision[float]:
    wanted = recipe.train.patches_kept
    if not isinstance(wanted, str):
        return Decision(wanted, "as the recipe says")
    if not recipe.adapter.trains_backbone:
        return Decision(1.0, "the backbone does not train")
    return Decision(PATCHES_KEPT, "in training, where the backbone's blocks allow it: half the work")


def _head(recipe: Recipe, facts: BackboneFacts, index: Index) -> Decision[str]:
    """What the head is before anything is trained; whether the weights are there too is known once they are loaded."""
    own = match_head(facts.outputs, index.labels.names, classes=index.of_classes)
    if recipe.adapter.kind == "lora" and recipe.adapter.start is not None:
        return Decision("that of adapter.from", "where it answers these labels; else as without it")
    if own.answers_all:
        return Decision("the base's own", f"{own.note}; the first candidate")
    if own.kept:
        return Decision("in part the base's own", own.note)
    return Decision("fresh", own.note)


def _eval_batch(wanted: int | str, micro_batch: int, machine: Machine) -> Decision[int]:
    if not isinstance(wanted, str):
        return Decision(wanted, "as the recipe says")
    why = "larger ones gain little on a CPU" if machine.device == "cpu" else "no gradients are kept"
    return Decision(eval_batch(micro_batch, machine.device), why)


def _workers(wanted: int | str, machine: Machine) -> Decision[int]:
    if not isinstance(wanted, str):
        return Decision(wanted, "as the recipe says")
    return Decision(machine.cores, f"{machine.cores} usable cores; they decode before training starts")


def _train_side(facts: BackboneFacts) -> Decision[int]:
    side = max(facts.preprocess.height, facts.preprocess.width)
    stored = math.ceil(side * 8 / 7)
    return Decision(stored, f"8/7 of the {side} px that the backbone sees: room for crops")


def _store_bytes(index: Index, facts: BackboneFacts) -> int:
    side = _train_side(facts).value
    seen = 3 * facts.preprocess.height * facts.preprocess.width
    return sum(len(rows) * (3 * side * side if split == "train" else seen) for split, rows in index.splits.items())
