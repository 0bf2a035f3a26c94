"""The trackers of a run: begun with its recipe and plan, and ended with it, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import dump_recipe
from hf_finetune.report.references import discreet
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import RunFolder, plan_as_dict
from hf_finetune.tracking.run import TrackedRun, flat, opening

logger = logging.getLogger(__name__)
WAIT_S = 30.0  # for trackers that send, at the end of a run without a budget
SHORT_WAIT_S = 10.0  # of one that was interrupted, or failed
LEAST_WAIT_S = 0.5  # with a budget that is used up
# What trackers take at the end of a run, all four of them in local stores (two busy cores, 2026-11-29).
CLOSING_S = 1.0


@contextmanager
def tracked_run(context: RunContext, folder: RunFolder, clock: Clock) -> Iterator[TrackedRun]:
    """What the run is told to the trackers by, on rank 0; it ends with the block, interrupted or failed where that is.

    A run under a time budget that is gone on with takes its rungs again, of as many updates as there is time for:
    trackers begin another run. Without a budget its steps are the same.
    """
    wanted = context.written.tracking
    if not wanted.to or not context.machine.is_first:
        yield TrackedRun()
        return
    from hf_finetune.tracking.writer import Writer

    begun = opening(
        folder.path,
        to=wanted.to,
        project=wanted.project,
        name=wanted.name,
        goes_on=context.recipe.budget.time is None,
    )
    try:
        tracked = TrackedRun(Writer(begun | _settings(context)))
    except OSError as error:  # no memory for a process, a folder that is a file
        logger.warning("tracking: it cannot begin: %s. The run goes on without it.", error)
        yield TrackedRun()
        return
    end = "FAILED"
    try:
        yield tracked
        end = "FINISHED"
    except KeyboardInterrupt:
        end = "KILLED"
        raise
    finally:
        tracked.close(end, min(SHORT_WAIT_S, closing_s(context, clock)))  # one that finished is closed already


def closing_s(context: RunContext, clock: Clock) -> float:
    """How long trackers may take to end: what is left of the budget, if there is one (0 is none: the probe alone)."""
    budget = context.recipe.budget.time
    return WAIT_S if not budget else max(LEAST_WAIT_S, min(WAIT_S, budget - clock.total()))


def _settings(context: RunContext) -> dict[str, Any]:
    """Recipe and plan, as values by name and as text; they may be sent to a server, so not with the user's home."""
    home = str(Path.home())
    recipe = context.recipe.model_dump(mode="json")
    plan: Mapping[str, Any] = plan_as_dict(context.plan)
    decided = {key: each["value"] for key, each in plan.items() if isinstance(each, Mapping) and "value" in each}
    settings = {**flat(recipe, "recipe"), **flat(decided, "plan")}
    texts = {
        "recipe": dump_recipe(context.recipe),
        "plan": yaml.safe_dump(_plain(plan), sort_keys=False, allow_unicode=True),
    }
    return {
        "settings": {name: discreet(each, home) if isinstance(each, str) else each for name, each in settings.items()},
        "texts": {name: discreet(each, home) for name, each in texts.items()},
    }


def _plain(value: Any) -> Any:
    """As YAML can say it: no tuples, no types of Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
