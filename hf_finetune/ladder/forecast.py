"""What a run is expected to take, by rung: from earlier runs on this machine, else from a stated rate of arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hf_finetune.ladder.lengths import EVALUATIONS, FEWEST_UPDATES, USUAL, whole_epochs
from hf_finetune.plan.speed import FIXED_S, stated, stated_flops
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.run.speeds import Speed, as_speeds, machine_key, median_of, read_speeds, scaled_of
from hf_finetune.types import BackboneFacts, Candidate, Index, Machine, Plan

# A pass forward and back, in forward passes: the gradient of the inputs, and of weights where all of them train.
FROZEN_PASSES, WHOLE_PASSES = 2.2, 3.0
# Two operations a weight and position, 197 positions: where they could not be counted. Assumption.
FLOPS_PER_PARAMETER = 400.0
CACHED_NOTE = "features from the cache"  # what the probe notes of a rung where it computed nothing


@dataclass(frozen=True)
class Work:
    """Images of a rung, and what one costs in forward passes of the backbone."""

    images: float
    passes: float


def with_seconds(plan: Plan, recipe: Recipe, machine: Machine, facts: BackboneFacts, index: Index) -> Plan:
    """The plan with its seconds by rung, `rest` and how coarse they are."""
    seconds, note = forecast_seconds(plan, recipe, machine, facts, index, read_speeds())
    return replace(plan, seconds=seconds, seconds_note=note, seconds_limit=recipe.budget.time or None)


def forecast_seconds(
    plan: Plan, recipe: Recipe, machine: Machine, facts: BackboneFacts, index: Index, speeds: Sequence[Speed]
) -> tuple[dict[str, float], str]:
    """Seconds by rung of the plan, and of the rest (imports, decoding, saving, test); and where they are from.

    A budget is not in them: it cuts them off.
    """
    flops = operations(facts)
    here = {"machine": machine_key(machine), "setting": setting(plan, recipe)}
    rate = stated_flops(machine) * machine.world_size
    seconds: dict[str, float] = {}
    sources: dict[str, str] = {}  # by rung
    for rung, work in work_of(plan, recipe, index, len(facts.blocks)).items():
        own = median_of(speeds, **here, rung=rung, backbone=facts.architecture, flops=flops)
        other = scaled_of(speeds, flops, **here, rung=rung)
        image_s = own or other or work.passes * flops / rate
        seconds[rung] = image_s * work.images
        sources[rung] = "own" if own else "other" if other else "stated"
    rest = median_of(speeds, machine=here["machine"], rung="rest")
    test = len(index.splits.get("test", ())) * flops / rate
    seconds["rest"] = (FIXED_S + test) if rest is None else rest
    return seconds, _note(sources, machine)


def _note(sources: Mapping[str, str], machine: Machine) -> str:
    if set(sources.values()) == {"own"}:
        return "from earlier runs of this backbone on this machine; may be off by half"
    never = [rung for rung, source in sources.items() if source == "stated"]
    if not never:
        return "from earlier runs on this machine, in proportion to arithmetic; may be off twofold"
    rate = f"from a stated {stated(machine)}; may be off threefold"
    if len(never) == len(sources):
        return f"no earlier run like it on this machine: {rate}"
    return f"from earlier runs on this machine, of which none like it had {' or '.join(never)}: {rate}"


def setting(plan: Plan, recipe: Recipe) -> str:
    """What changes the seconds of an image beside the machine and the backbone."""
    return f"{recipe.adapter.kind}, {recipe.quantization.kind}, {plan.precision.value}"


def operations(facts: BackboneFacts) -> float:
    """Of a forward pass over one image, or a guess."""
    return facts.forward_flops or FLOPS_PER_PARAMETER * facts.parameters


def work_of(plan: Plan, recipe: Recipe, index: Index, blocks: int) -> dict[str, Work]:
    """What each rung of the plan has to do, evaluations in it."""
    train, validation = len(index.splits["train"]), len(index.splits.get("validation", ()))
    batch, kept = plan.effective_batch.value, plan.patches_kept.value
    passes = WHOLE_PASSES if recipe.adapter.whole else FROZEN_PASSES if recipe.adapter.trains_backbone else 1.0
    cached = max(round(USUAL * whole_epochs(train) * max(1, train // batch)), FEWEST_UPDATES) * batch
    depth = plan.suffix_blocks.value / max(1, blocks)
    full = plan.steps.value * batch
    evaluated = min(plan.steps.value, recipe.train.evaluations) * validation
    wanted: Mapping[str, Work] = {
        "probe": Work(train + validation, 1.0),
        "cached": Work(cached, depth * (kept * passes + USUAL * EVALUATIONS * validation / cached)),
        "full": Work(full, kept * passes + evaluated / full),
    }
    return {rung: work for rung, work in wanted.items() if rung in plan.rungs.value}


def speeds_of(
    plan: Plan,
    recipe: Recipe,
    machine: Machine,
    facts: BackboneFacts,
    rows: int,
    rungs: Sequence[Candidate],
    total_s: float,
) -> list[Speed]:
    """What a finished run shows: seconds an image of each rung that computed, and of all else. `rows`: the probe's."""
    spent: dict[str, tuple[float, int]] = {}
    for rung in rungs:
        computed = rung.rung == "probe" and CACHED_NOTE not in rung.note
        if images := rows if computed else rung.images:
            spent[rung.rung] = (rung.seconds, images)
    spent["rest"] = (total_s - sum(rung.seconds for rung in rungs), 1)
    return as_speeds(machine, setting(plan, recipe), facts.architecture, operations(facts), spent)
