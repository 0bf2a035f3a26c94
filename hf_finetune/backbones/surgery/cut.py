"""Cuts a backbone between two blocks: what enters a block, and running only the blocks from there on.

Nothing is assumed of a family beyond `facts.blocks`: each block takes the hidden state as its first argument and gives
it back as a tensor. Whether prefix and suffix together give what the whole gives is checked by the caller on real
images (`ladder/trained/cached.py`); where they do not, the cut is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hf_finetune.errors import ModelError


class Watch:
    """While it is entered, keeps what the last forward pass gave to the head's modules, and to the block `entry`.

    `features` is float32 [B, d], the inputs of all head modules side by side; `hidden` the state that entered the
    block, or None. Raises ModelError where a head takes anything but one vector an image.
    """

    def __init__(self, heads: Sequence[nn.Module], entry: nn.Module | None) -> None:
        self._heads, self._entry = heads, entry
        self._inputs: dict[int, torch.Tensor] = {}
        self._hidden: torch.Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> Watch:
        for number, head in enumerate(self._heads):
            self._handles.append(head.register_forward_pre_hook(self._keep_features(number)))
        if self._entry is not None:
            self._handles.append(self._entry.register_forward_pre_hook(self._keep_hidden, with_kwargs=True))
        return self

    def __exit__(self, *ending: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def features(self) -> torch.Tensor:
        return torch.cat([self._inputs[number] for number in range(len(self._heads))], dim=1)

    @property
    def hidden(self) -> torch.Tensor | None:
        return self._hidden

    def _keep_features(self, number: int) -> Any:
        def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
            vector = args[0].detach()
            if vector.ndim == 4 and vector.shape[2:] == (1, 1):
                vector = vector.flatten(1)
            if vector.ndim != 2:
                raise ModelError(f"the head takes {list(vector.shape)}, not one vector an image")
            self._inputs[number] = vector.float()

        return keep

    def _keep_hidden(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = args[0] if args else kwargs.get("hidden_states")
        self._hidden = state.detach() if isinstance(state, torch.Tensor) else None


@contextmanager
def suffix_only(backbone: nn.Module, blocks: Sequence[str], entry: str, size: tuple[int, int]) -> Iterator[None]:
    """Inside, `backbone(pixel_values=hidden)` starts at the block `entry` with the hidden state [B, …].

    The blocks before it hand on what they get; the rest of the forward runs as written, its stem on one blank image
    [1, 3, *size]. Gradients reach the suffix alone.
    """
    position = blocks.index(entry)
    before = [backbone.get_submodule(name) for name in blocks[:position]]
    fed: list[torch.Tensor] = []

    def give(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (fed[-1], *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": fed[-1]}

    whole, own = backbone.forward, vars(backbone).get("forward")

    def forward(pixel_values: torch.Tensor, **more: Any) -> Any:
        fed[:] = [pixel_values]  # stays: a block that is recomputed in the backward pass asks again
        first = next(weight for weight in backbone.parameters() if weight.is_floating_point())
        return whole(pixel_values=torch.zeros(1, 3, *size, device=first.device, dtype=first.dtype), **more)

    handle = backbone.get_submodule(entry).register_forward_pre_hook(give, with_kwargs=True)
    try:
        backbone.forward = forward
        for block in before:
            block.forward = _hand_on
        yield
    finally:
        handle.remove()
        for module in (backbone, *before):
            module.__dict__.pop("forward", None)
        if own is not None:
            backbone.forward = own
        else:
            # Accelerate wraps the forward of a model once; where it wrapped the one above, its mark would keep it from
            # wrapping the backbone's own (full fine-tuning: `full` would train without autocast).
            backbone.__dict__.pop("_is_accelerate_prepared", None)


def _hand_on(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return hidden_states


def is_left_out(block: nn.Module) -> bool:
    """Whether the block lies before a cut that is in force, and so hands on what it gets without its weights."""
    return vars(block).get("forward") is _hand_on
