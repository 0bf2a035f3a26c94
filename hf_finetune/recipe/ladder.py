"""The recipe's `ladder`: which rungs a run climbs. Light."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

Rung = Literal["probe", "cached", "full"]
RUNGS: tuple[Rung, ...] = ("probe", "cached", "full")


def _in_order(rungs: Literal["auto"] | tuple[Rung, ...]) -> Literal["auto"] | tuple[Rung, ...]:
    if rungs == "auto":
        return rungs
    if not rungs or list(rungs) != [rung for rung in RUNGS if rung in rungs]:
        raise ValueError(f"some of {', '.join(RUNGS)} are expected, each once and in this order, or auto")
    if "cached" in rungs and "probe" not in rungs:
        raise ValueError("cached trains on what the probe's forward pass keeps; name probe before it")
    return rungs


Ladder = Annotated[Literal["auto"] | tuple[Rung, ...], AfterValidator(_in_order)]
