"""Norms that a checkpoint lacks because only a classifier reads them, such as the pooler's of a self-supervised BEiT.

A norm begins as ones and zeros, which nothing random is in: it is part of the head, like the layer behind it. Owns
which missing weights those are; any other missing weight is load.py's to refuse.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import nn

log = logging.getLogger(__name__)
_NORM_LEAVES = frozenset(("weight", "bias", "running_mean", "running_var"))
_COUNTER = "num_batches_tracked"  # nothing reads it in eval mode, and older checkpoints lack it


def head_norms(
    empty: nn.Module, missing: Iterable[str], head: Sequence[str], height: int, width: int
) -> tuple[str, ...]:
    """Names of the norms all of whose weights are `missing`, and behind which an image meets none but such and the
    head's modules. `empty`: the model without weights, on any device."""
    lost: dict[str, set[str]] = defaultdict(set)
    for key in missing:
        name, _, leaf = key.rpartition(".")
        lost[name].add(leaf)
    found = {name for name, leaves in lost.items() if _is_norm(empty, name, leaves)}
    if not found:
        return ()
    order = _order(empty, height, width)
    behind = {name: set(order[order.index(name) + 1 :]) for name in found if name in order}
    # One that the backbone reads too rules itself out, and those that only led to it.
    while wrong := [name for name in found if name not in behind or not behind[name] <= {*found, *head}]:
        found -= set(wrong)
    return tuple(sorted(found))


def _is_norm(model: nn.Module, name: str, lost: set[str]) -> bool:
    module = model.get_submodule(name)
    own = {leaf for leaf, _ in module.named_parameters(recurse=False)}
    own |= {leaf for leaf, _ in module.named_buffers(recurse=False)}
    return "norm" in type(module).__name__.lower() and own <= {*_NORM_LEAVES, _COUNTER} and own - {_COUNTER} <= lost


def _order(model: nn.Module, height: int, width: int) -> list[str]:
    """The modules that have weights of their own, as one image meets them; empty where the model does not run."""
    met: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: met.append(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            device = next(model.parameters()).device
            model.eval()(pixel_values=torch.zeros(1, 3, height, width, device=device))
    except Exception as error:  # noqa: BLE001  third-party forwards raise anything; the weights then stay missing
        log.debug("the order of modules could not be seen: %s", error)
        return []
    finally:
        for handle in handles:
            handle.remove()
    return met


def begun(model: nn.Module, name: str, norms: Sequence[str]) -> tuple[str, ...]:
    """Those of the norms that the library has begun with constants, said in the log; `name` is the checkpoint's.

    They stay as the library begins them, nearly always ones and zeros (transformers' Hiera: ones and 0.02), since stock
    code that puts an adapter on the base will begin them so too.
    """
    taken = []
    for each in norms:
        tensors = {
            leaf: value for leaf, value in model.get_submodule(each).state_dict().items() if leaf in _NORM_LEAVES
        }
        constants = {leaf: value.flatten()[0].item() for leaf, value in tensors.items()}
        alike = all(bool((value == constants[leaf]).all()) for leaf, value in tensors.items())
        if alike and constants.get("weight", 1.0):
            taken.append(each)
            values = ", ".join(f"{leaf} {constant:g}" for leaf, constant in constants.items())
            log.info("%s has no %s: it begins with %s, as part of the head", name, each, values)
    return tuple(taken)
