"""What a network does with its layers while an image is run: which it calls, with what, and what it reads of them.

A network that takes a layer's weight and multiplies on its own works only with the layer as it was built: in place of
it there must be no adapter, and no quantized layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

# Attributes of a convolution that PEFT's wrapper does not pass on (peft 0.21.2, tuners/lora/layer.py, _ConvNd).
GEOMETRY = frozenset(nn.Conv2d.__constants__)
# What is noted when it is read outside of the layer's own forward.
_NOTED: Mapping[type[nn.Module], frozenset[str]] = {nn.Conv2d: GEOMETRY, nn.Linear: frozenset({"weight"})}


@dataclass
class Watched:
    """By name of module: `called`; `dimensions` of the largest input; `read`: attributes read from outside."""

    called: set[str] = field(default_factory=set)
    dimensions: dict[str, int] = field(default_factory=dict)
    read: dict[str, set[str]] = field(default_factory=dict)


@contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[Watched]:
    """While open, what happens to `modules` is noted."""
    seen = Watched()
    inside: Counter[str] = Counter()
    handles = []
    classes = {name: type(module) for name, module in modules.items()}
    for name, module in modules.items():

        def enter(_module: nn.Module, inputs: tuple[object, ...], name: str = name) -> None:
            seen.called.add(name)
            inside[name] += 1
            given = [each.ndim for each in inputs if isinstance(each, torch.Tensor)]
            seen.dimensions[name] = max([seen.dimensions.get(name, 0), *given])

        def leave(_module: nn.Module, _input: object, _output: object, name: str = name) -> None:
            inside[name] -= 1

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
        for kind, noted in _NOTED.items():
            if isinstance(module, kind):
                spy = _spy(type(module), name, noted, inside, seen.read)
                module.__class__ = spy  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for name, module in modules.items():
            module.__class__ = classes[name]


def _spy(
    kind: type[nn.Module], name: str, noted: frozenset[str], inside: Counter[str], read: dict[str, set[str]]
) -> type[nn.Module]:
    def get(module: nn.Module, attribute: str) -> object:
        if attribute in noted and not inside[name]:
            read.setdefault(name, set()).add(attribute)
        return kind.__getattribute__(module, attribute)

    return type(kind.__name__, (kind,), {"__getattribute__": get, "__module__": kind.__module__})
