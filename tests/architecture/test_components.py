"""A new component is one file and one line: a folder's modules and its union are the same set."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from hf_finetune.adapters import KINDS
from hf_finetune.section import Section
from hf_finetune.training.config import Train
from hf_finetune.training.optimizers import OPTIMIZERS

FOLDERS = {"adapters": "Adapter", "quantizers": "Quantizer", "tasks": "Task"}


def union(folder: str) -> set[type[Section]]:
    """The members of the folder's union; a single class is a union of one."""
    declared: Any = getattr(importlib.import_module(f"hf_finetune.{folder}"), FOLDERS[folder])
    if isinstance(declared, type):
        return {declared}
    annotated = get_args(declared)
    assert isinstance(annotated[1], FieldInfo)
    assert annotated[1].discriminator == "kind"
    return set(get_args(annotated[0]))


def defined(folder: str) -> set[type[Section]]:
    """The sections with a `kind` that the folder's modules define."""
    package = importlib.import_module(f"hf_finetune.{folder}")
    found = set()
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.ispkg:
            continue
        module = importlib.import_module(f"hf_finetune.{folder}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Section) and value.__module__ == module.__name__:
                found |= {value} if "kind" in value.model_fields else set()
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folders_sections_and_its_union_are_the_same(folder: str) -> None:
    assert union(folder) == defined(folder)
    assert len(union(folder)) > 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_section_has_a_kind_of_its_own_and_no_subclass(folder: str) -> None:
    kinds = [member.model_fields["kind"].default for member in union(folder)]
    assert len(set(kinds)) == len(kinds)
    assert [member for member in union(folder) if member.__subclasses__()] == []


def test_every_optimizer_can_be_chosen_and_every_adapter_has_a_rate_for_it() -> None:
    assert set(get_args(Train.model_fields["optimizer"].annotation)) == set(OPTIMIZERS)
    families = {optimizer.family for optimizer in OPTIMIZERS.values()}
    assert {kind: set(adapter.base_rates) for kind, adapter in KINDS.items()} == dict.fromkeys(KINDS, families)
