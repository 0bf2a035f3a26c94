"""A run as trackers see it: one for all its rungs, steps increasing from rung to rung.

Owns the steps and what is said at them. A process of its own writes (process.py): a tracker that waits for its server,
prints, or keeps the interpreter from ending can then neither hold up training nor end it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_finetune.tracking.writer import Writer
from hf_finetune.types import Candidate

FOLDER = "tracking"  # in the run folder
UNTRAINED = 0  # `Candidate.step` of a rung that takes no updates


class TrackedRun:
    """What is known of the run goes to `writer` as it becomes known; nothing where there is none.

    A rung that trains takes a step for each of its updates, and every rung one more for its score.
    """

    def __init__(self, writer: Writer | None = None) -> None:
        self._writer = writer
        self._next = 0  # the first step of the rung that is at work
        self._last = -1  # the last one that was written
        self._interrupted = False

    @property
    def is_followed(self) -> bool:
        """Whether any tracker is asked for."""
        return self._writer is not None

    def log(self, update: int, values: Mapping[str, Any]) -> None:
        """What is known after so many updates of the rung that is at work."""
        self._write(self._next + max(0, update - 1), values)

    def rung(self, candidate: Candidate) -> None:
        """The score of a rung that has ended. It is a point of the curve of validation too, where no update was."""
        if self._interrupted:
            return
        name = candidate.rung
        values = {f"rung/{name}/{metric}": value for metric, value in candidate.validation.items()}
        values |= {f"rung/{name}/seconds": candidate.seconds, f"rung/{name}/kept": int(candidate.kept)}
        if candidate.step == UNTRAINED:
            values |= {f"eval/{metric}": value for metric, value in candidate.validation.items()}
        self._end_step(values)

    def interrupt(self) -> None:
        """The rung that is at work ends here for now: its score is the one that it has when it is gone on with."""
        self._interrupted = True

    def test(self, metrics: Mapping[str, Any]) -> None:
        """The score of the saved result."""
        self._end_step({f"test/{metric}": value for metric, value in metrics.items()})

    def close(self, end: str, within_s: float) -> None:
        """The run has ended: FINISHED, KILLED (interrupted) or FAILED. Waits so long for what is not written yet."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(end, within_s)

    def _end_step(self, values: Mapping[str, Any]) -> None:
        self._write(self._last + 1, values)
        self._next = self._last + 1

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        self._last = max(self._last, step)
        known = {name: float(value) for name, value in values.items() if _is_number(value)}
        if self._writer is not None and known:
            self._writer.send({"step": step, "values": known})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def opening(
    folder: Path, *, to: tuple[str, ...], project: str | None, name: str | None, goes_on: bool
) -> dict[str, Any]:
    """Whom process.py writes to, and as what. `goes_on`: a run of the same steps that is in the folder already."""
    return {
        "to": list(to),
        "project": project,
        "name": name or folder.resolve().name or "run",
        "folder": str(folder / FOLDER),
        "goes_on": goes_on,
    }


def flat(content: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """`{"train": {"epochs": 3}}` → `{"recipe.train.epochs": 3}`; lists as JSON: what all trackers take as settings."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            found |= flat(value, name)
        elif isinstance(value, list | tuple):
            found[name] = json.dumps(value, ensure_ascii=False)
        else:
            found[name] = value
    return found
