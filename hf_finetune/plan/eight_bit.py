"""What a quantized backbone would take in this run's place: the memory half of whether 8 bits are worth it here."""

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
    (negative: more)."""

    kind: str
    takes: int
    saves: int

    @property
    def text(self) -> str:
        """`quantization.kind=int8 would take 1.7 GB, 0.2 GB less`"""
        difference = f"{format_bytes(abs(self.saves))} {'less' if self.saves >= 0 else 'more'}"
        return f"quantization.kind={self.kind} would take {format_bytes(self.takes)}, {difference}"


def savings(context: RunContext) -> Iterator[Saving]:
    """Of int8 and nf4, where this backbone, adapter and machine can have them, at the plan's micro-batch and blocks."""
    recipe, plan = context.recipe, context.plan
    if recipe.quantization.kind != "none" or recipe.adapter.whole:
        return
    now = sum(plan.memory_bytes.values())
    for kind in ("int8", "nf4"):
        try:
            other = changed(recipe, [f"quantization.kind={kind}"])
            takes = bytes_at(other, context.machine, context.facts, context.index, plan, context.count)
        except FinetuneError:
            continue
        yield Saving(kind, takes, now - takes)
