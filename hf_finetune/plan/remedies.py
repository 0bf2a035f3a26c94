"""What to change where a recipe does not fit the memory: the cheapest changes first, each with what it saves and costs.

Every number is the forecast's own of the changed recipe, so that a change that is named works when it is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hf_finetune.errors import FinetuneError
from hf_finetune.plan.fitting import budget_for
from hf_finetune.recipe.recipe import Recipe, changed
from hf_finetune.units import format_bytes

# The bytes of a recipe at its smallest (the least micro-batch, recomputing what it allows). Raises a FinetuneError for
# what cannot be run.
Least = Callable[[Recipe], int]


@dataclass(frozen=True)
class Change:
    """Recipe keys as they are typed, and what they cost."""

    keys: tuple[str, ...]
    cost: str


@dataclass(frozen=True)
class Remedy:
    """A change, what it saves, what is needed with it, and whether that fits."""

    change: Change
    saves: int
    needs: int
    fits: bool

    @property
    def text(self) -> str:
        """`adapter.kind=head_only  saves 2.1 GB, 0.9 GB in all`, and below it what it costs: 80 columns hold each."""
        keys = " ".join(self.change.keys)
        short = "" if self.fits else ", not enough alone"
        saves = f"saves {format_bytes(self.saves)}, {format_bytes(self.needs)} in all{short}"
        return f"{keys}  {saves}\n      {self.change.cost}"


def changes(recipe: Recipe, device: str) -> Iterator[Change]:
    """What could be changed in it, the cheapest first."""
    train, adapter, kind = recipe.train, recipe.adapter, recipe.quantization.kind
    if train.micro_batch not in ("auto", 1):
        yield Change(("train.micro_batch=auto",), "smaller pieces of the same update; a little slower")
    if train.checkpointing not in ("auto", True):
        yield Change(("train.checkpointing=auto",), "the blocks are computed twice; about a third slower")
    if train.precision == "fp32":
        yield Change(("train.precision=bf16",), "products round to 8 bits; quicker where the machine has them")
    if train.optimizer not in ("adamw_8bit", "sgd") and adapter.whole:
        yield Change(("train.optimizer=adamw_8bit",), "the optimizer's state rounds to 8 bits")
    lora = "adapter.kind=lora"
    if adapter.whole:
        yield Change((lora,), "low-rank adapters learn instead of every weight")
    if kind == "none" and not adapter.whole and recipe.model.stream in ("auto", "off"):
        place = "disk" if device == "cpu" else "host"
        yield Change((f"model.stream={place}",), "frozen blocks are read for each update; slower where they do not fit")
    for each in ("int8", "nf4"):
        if kind not in (each, "nf4"):
            keys = (*((lora,) if adapter.whole else ()), f"quantization.kind={each}")
            yield Change(keys, "the frozen weights are rounded; see what the plan says of its speed")
    if adapter.kind == "lora" and (adapter.rank or 0) > 4 and adapter.start is None:
        yield Change(("adapter.rank=4",), "fewer numbers to adapt with")
    if adapter.kind != "head_only":
        yield Change(("adapter.kind=head_only",), "the head alone learns; the backbone stays as it is")


def remedies(recipe: Recipe, device: str, room: int, least: Least) -> list[Remedy]:
    """Each change that saves anything, alone; where none is enough, the cheapest of them together as well."""
    now = least(recipe)
    found: list[Remedy] = []
    for change in changes(recipe, device):
        needs = _needs(recipe, change.keys, least)
        if needs is not None and needs < 0.99 * now:
            found.append(Remedy(change, now - needs, needs, needs <= room))
    if any(each.fits for each in found):
        return found
    together = _together(recipe, [each.change for each in found], room, least, now)
    return found if together is None else [together, *found]


def _together(recipe: Recipe, known: Sequence[Change], room: int, least: Least, now: int) -> Remedy | None:
    """The first of the changes, as many as it takes; those of another value of the same key replace it."""
    keys: dict[str, str] = {}
    for change in known:
        before = dict(keys)
        keys |= {key.partition("=")[0]: key for key in change.keys}
        if keys.get("adapter.kind", "").endswith("head_only"):
            keys.pop("adapter.rank", None)
        needs = _needs(recipe, tuple(keys.values()), least)
        if needs is None:
            keys = before
        elif needs <= room:
            return Remedy(Change(tuple(keys.values()), "together"), now - needs, needs, True)
    return None


def _needs(recipe: Recipe, keys: Sequence[str], least: Least) -> int | None:
    try:
        return least(changed(recipe, keys))
    except FinetuneError:
        return None


def say(found: Sequence[Remedy], needed: int, budget: int | None, process: int) -> str:
    """For the end of a message: two lines each. `needed`: the bytes of the recipe as it is, `process` of them before
    there is a model; `budget`: what it allows, None where what the machine has free is the limit."""
    enough = "" if budget is None else f"budget.memory={math.ceil(budget_for(needed) / 1e6)}MB"
    if budget is not None and budget_for(process) >= budget:
        return (
            f"Python and its libraries take {format_bytes(process)} of it, so that no other change does: set {enough}."
        )
    fitting = [each for each in found if each.fits]
    if not fitting:
        instead = "take a smaller backbone (model.name), or another machine"
        return f"No other change of the recipe makes it fit: {f'set {enough}, or ' if enough else ''}{instead}."
    lines = "\n".join(f"    {each.text}" for each in (fitting + [each for each in found if not each.fits]))
    return f"What makes it fit, the cheapest first{f' (or {enough})' if enough else ''}:\n{lines}"
