"""Whether 8 or 4 bits are worth it here: what a quantized backbone would take in this run's place, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_finetune.errors import FinetuneError
from hf_finetune.plan.plan import bytes_at
from hf_finetune.recipe.recipe import changed
from hf_finetune.units import format_bytes

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext


@dataclass(frozen=True)
class Saving:
    """Another quantization of the same run: `kind`, the bytes it takes, and how many fewer those are than the plan's
    (negative: more), `again` of them since it makes activations again. `times`: how long products of its layers take on
    this machine against the run's own; None where that was not measured."""

    kind: str
    takes: int
    saves: int
    again: int = 0
    times: float | None = None

    @property
    def text(self) -> str:
        """`quantization.kind=int8 would take 1.7 GB, 0.2 GB less; its layers take 0.71 times as long (measured …)`"""
        difference = f"{format_bytes(abs(self.saves))} {'less' if self.saves >= 0 else 'more'}"
        if self.again > 0:
            difference += f" ({format_bytes(self.again)} by making activations again, as any budget.memory does)"
        text = f"quantization.kind={self.kind} would take {format_bytes(self.takes)}, {difference}"
        return text if self.times is None else f"{text}; its layers take {self.times:.2f} times as long (measured here)"


def savings(context: RunContext) -> Iterator[Saving]:
    """Of int8 and nf4, where this backbone, adapter and machine can have them, at the plan's micro-batch and blocks."""
    recipe, plan = context.recipe, context.plan
    if recipe.quantization.kind != "none" or recipe.adapter.whole:
        return
    now = sum(plan.memory_bytes.values())
    frugal = changed(recipe, ["budget.memory=1000TB"])  # no limit, but what a limit asks of activations
    again = now - bytes_at(frugal, context.machine, context.facts, context.index, plan, context.count)
    for kind in ("int8", "nf4"):
        try:
            other = changed(recipe, [f"quantization.kind={kind}"])
            takes = bytes_at(other, context.machine, context.facts, context.index, plan, context.count)
        except FinetuneError:
            continue
        yield Saving(kind, takes, now - takes, again, _times(kind, context))


def _times(kind: str, context: RunContext) -> float | None:
    # A machine that is not this one has no measured process either.
    if context.plan.device.value != "cpu" or not context.machine.process_bytes:
        return None
    from hf_finetune.plan.eight_bit_speed import times_as_long

    return times_as_long(kind, context.facts, context.plan.precision.value)
