"""Tasks: what is predicted, its loss and its metrics."""

from collections.abc import Mapping
from typing import Any

from hf_finetune.tasks.classification import Classification, ClassTarget
from hf_finetune.tasks.target import Part, Target
from hf_finetune.types import Labels

Task = Classification
_RESTORE = {"classification": ClassTarget.restored}


def restore(settings: Mapping[str, Any], outputs: Labels) -> Target:
    """The target of a result, from its outputs and from what `Target.settings` wrote of it. Raises KeyError for a task
    that this version does not know."""
    return _RESTORE[settings["kind"]](settings, outputs)


__all__ = ["Classification", "Part", "Target", "Task", "restore"]
