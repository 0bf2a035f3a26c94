"""The recipe's `tracking` section. Light."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from hf_finetune.errors import MachineError
from hf_finetune.section import Section

Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]
# What the process that writes holds of its own with all four, torch's 310 MB first (2026-11-29).
PROCESS_BYTES = 450_000_000
INSTALL = "pip install 'hf_finetune[tracking]'"
# What no tracker takes in a name, or takes for a folder.
_REFUSED = re.compile(r"[/\\#?%:\x00-\x1f]")


def _check_name(name: str) -> str:
    if not name.strip(" .") or len(name) > 128 or _REFUSED.search(name):
        raise ValueError(
            "a name of at most 128 characters without / \\ # ? % : and line breaks is expected, not of dots alone, "
            f"found {name!r}"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]


def _once(trackers: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
    return tuple(dict.fromkeys(trackers))


class Tracking(Section):
    """Trackers that follow the run, each its rungs in one run; `tracking: [tensorboard, wandb]` is short for `to`."""

    to: Annotated[tuple[Tracker, ...], AfterValidator(_once)] = Field(
        default=(), description=f"any of them; `{INSTALL}` brings them"
    )
    project: Name | None = Field(
        default=None,
        description="null: the tracker's own environment variable (WANDB_PROJECT, MLFLOW_EXPERIMENT_NAME), else "
        "hf_finetune",
    )
    name: Name | None = Field(default=None, description="what the run is called; null: as its folder")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, written: Any) -> Any:
        return as_section(written)

    def check_installed(self) -> None:
        """Raise MachineError, naming what to install, where a tracker is not there."""
        absent = [tracker for tracker in self.to if find_spec(tracker) is None]
        if absent:
            raise MachineError(
                f"tracking: {' and '.join(self.to)} {'is' if len(self.to) == 1 else 'are'} expected to be installed, "
                f"found no {' and no '.join(absent)}.",
                f"{INSTALL}, or leave {' and '.join(absent)} out of tracking.",
            )


def take_a_list(schema: dict[str, Any]) -> None:
    """Let an editor take a list for the section, too."""
    trackers = {"type": "array", "items": {"enum": list(get_args(Tracker)), "type": "string"}}
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, trackers]


def as_section(written: Any) -> Any:
    """A list of trackers, or one by itself, as the section; anything else as it is."""
    if written is None:
        return {}
    if isinstance(written, str):
        return {"to": [] if written == "none" else [written]}
    return {"to": list(written)} if isinstance(written, list | tuple) else written
