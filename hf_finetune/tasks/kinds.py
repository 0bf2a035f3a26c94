"""The kinds of a single target: which section its labels or its keys ask for, and what a result has of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from hf_finetune.labels import LabelKind, Labels
from hf_finetune.tasks.auto import Auto
from hf_finetune.tasks.classification import Classification, ClassTarget
from hf_finetune.tasks.multilabel import LabelsTarget, Multilabel
from hf_finetune.tasks.ordinal import GradeTarget, Ordinal
from hf_finetune.tasks.regression import NumberTarget, Regression
from hf_finetune.tasks.target import Target
from hf_finetune.types import Index

One = Annotated[Auto | Classification | Multilabel | Ordinal | Regression, Field(discriminator="kind")]
SettledOne = Classification | Multilabel | Ordinal | Regression

_OF_LABELS: dict[LabelKind, type[SettledOne]] = {
    "classes": Classification,
    "labels": Multilabel,
    "grades": Ordinal,
    "numbers": Regression,
}
_RESTORE = {
    "classification": ClassTarget.restored,
    "multilabel": LabelsTarget.restored,
    "ordinal": GradeTarget.restored,
    "regression": NumberTarget.restored,
}


def settled_one(task: Auto | SettledOne, index: Index) -> SettledOne:
    """The task itself, or the one that the labels of the index ask for."""
    return _OF_LABELS[index.columns[0].kind]() if isinstance(task, Auto) else task


def kind_of_one(keys: Collection[str]) -> str:
    """The kind that a section with these keys means when it names none: the first that knows them all."""
    for member in (Auto, *_OF_LABELS.values()):
        if member.model_fields.keys() >= set(keys):
            return str(member.model_fields["kind"].default)
    return "classification"


def restore_one(settings: Mapping[str, Any], outputs: Labels) -> Target:
    """The target of a result, from its outputs and from what `Target.settings` wrote of it. Raises KeyError for a kind
    that this version does not know."""
    return _RESTORE[settings["kind"]](settings, outputs)
