"""Tasks: what is predicted, its loss and its metrics."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from hf_finetune.labels import Labels
from hf_finetune.tasks.auto import Auto
from hf_finetune.tasks.classification import Classification
from hf_finetune.tasks.kinds import SettledOne, kind_of_one, restore_one, settled_one
from hf_finetune.tasks.multilabel import Multilabel
from hf_finetune.tasks.ordinal import Ordinal
from hf_finetune.tasks.regression import Regression
from hf_finetune.tasks.several import Several
from hf_finetune.tasks.several_target import SeveralTarget
from hf_finetune.tasks.target import Part, Target
from hf_finetune.types import Index

Settled = SettledOne | Several
Task = Annotated[
    Auto | Classification | Multilabel | Ordinal | Regression | Several,
    Field(discriminator="kind"),
]


def settled(task: Task, index: Index) -> Settled:
    """The task itself, or the one that the labels of the index ask for."""
    return task.settled(index) if isinstance(task, Several) else settled_one(task, index)


def kind_with(keys: Collection[str]) -> str:
    """The kind that a section with these keys means when it names none."""
    return "several" if "targets" in keys else kind_of_one(keys)


def restore(settings: Mapping[str, Any], outputs: Labels) -> Target:
    """As `restore_one`, of any task."""
    return SeveralTarget.restored(settings) if settings["kind"] == "several" else restore_one(settings, outputs)


__all__ = [
    "Auto",
    "Classification",
    "Multilabel",
    "Ordinal",
    "Part",
    "Regression",
    "Settled",
    "Several",
    "Target",
    "Task",
    "kind_with",
    "restore",
    "settled",
]
