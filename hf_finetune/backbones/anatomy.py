"""What a backbone is made of: its head, and its blocks in order.

Everything is read from the built model (usually on the meta device), not from a list of known families. Which modules
may be adapted is targets.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from hf_finetune.errors import ModelError


@dataclass(frozen=True)
class Head:
    """The modules that give the logits (several where a distilled model has two) and the width of their input."""

    names: tuple[str, ...]
    in_features: int


def find_head(model: PreTrainedModel, wider: PreTrainedModel) -> Head:
    """The modules whose weights change shape with the number of labels: `model` and `wider` differ in that alone.

    Raises ModelError where no module does, or where the changing weight is no module's of its own.
    """
    shapes = {name: weight.shape for name, weight in wider.named_parameters()}
    changed = [name for name, weight in model.named_parameters() if shapes.get(name) != weight.shape]
    names = tuple(dict.fromkeys(name.rpartition(".")[0] for name in changed))
    if not names or "" in names:
        which = f"the weights {', '.join(changed)} are" if changed else "no weight is"
        raise ModelError(
            f"the head of {type(model).__name__} was not found: {which} shaped by the number of labels",
            "an image classifier with a head of its own is expected",
        )
    weight = model.get_submodule(names[0]).weight
    return Head(names, int(weight.shape[1]) if isinstance(weight, nn.Parameter) and weight.ndim > 1 else 0)


def find_blocks(model: nn.Module, head: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the repeated blocks in order, stages flattened; empty where the network repeats nothing.

    A block is a composite member of a ModuleList or Sequential. A member that holds most of its weights in a further
    list of composites is a stage, and its members are the blocks (two levels at most: inside a block lists are layers).
    """
    total = sum(weight.numel() for weight in model.parameters()) or 1
    found: list[str] = []
    for name, container in _outermost(model):
        if any(name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.") for each in head):
            continue
        # Stems and necks are lists too; what holds under 2 % of the weights is no trunk.
        if sum(weight.numel() for weight in container.parameters()) >= 0.02 * total:
            found += _units(name, container, depth=0)
    return tuple(found)


def _is_container(module: nn.Module) -> bool:
    return type(module) in (nn.ModuleList, nn.Sequential) and any(_is_composite(child) for child in module.children())


def _is_composite(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _outermost(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if _is_container(child):
            yield path, child
        else:
            yield from _outermost(child, path)


def _units(prefix: str, container: nn.Module, depth: int) -> list[str]:
    found: list[str] = []
    for name, child in container.named_children():
        path = f"{prefix}.{name}"
        if not _is_composite(child):
            continue
        own = sum(weight.numel() for weight in child.parameters())
        inner = [(path, child)] if _is_container(child) else list(_outermost(child, path))
        inner = [(where, each) for where, each in inner if _weight(each) >= 0.5 * own]
        if depth < 1 and inner:
            found += _units(*inner[0], depth=depth + 1)
        else:
            found.append(path)
    return found


def _weight(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
