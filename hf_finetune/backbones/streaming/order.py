"""The order in which a network's blocks are used: which one runs now, in which direction, and so which one is next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hf_finetune.backbones.surgery.cut import is_left_out

# Called with the numbers of the block that is about to be used, and of the one that will be used after it (None: no
# more in this direction).
Use = Callable[[int, int | None], None]


def watch_blocks(blocks: Sequence[nn.Module], use: Use) -> list[Any]:
    """Have `use` called before each block runs, in the forward pass, when it is recomputed, and before its backward
    pass; gives the hooks' handles. Blocks that a cut leaves out are not used."""
    handles: list[Any] = []
    for number, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(partial(_before, number, len(blocks), use)))
        handles.append(block.register_forward_hook(partial(_after, number, use)))
    return handles


def _before(number: int, count: int, use: Use, block: nn.Module, _inputs: object) -> None:
    if is_left_out(block):
        return
    if _in_backward():
        use(number, _before_it(number))
    else:
        use(number, number + 1 if number + 1 < count else None)


def _after(number: int, use: Use, block: nn.Module, _inputs: object, output: Any) -> None:
    """A gradient that arrives at the output is the beginning of the block's backward pass."""
    if is_left_out(block) or _in_backward():
        return
    given = output if isinstance(output, Sequence) else (output,)
    first = next((each for each in given if isinstance(each, Tensor) and each.requires_grad), None)
    if first is not None:
        first.register_hook(lambda _gradient: use(number, _before_it(number)))


def _before_it(number: int) -> int | None:
    return number - 1 if number else None


def _in_backward() -> bool:
    """Whether this runs inside of a backward pass: a block that runs there is recomputed."""
    return torch._C._current_graph_task_id() != -1
