"""Counts what a training step holds, on a model without weights: every tensor is followed from its making to its end.

The model comes in the form in which it will train (types, adapter, training forms, recomputed blocks), so that what
those forms keep is counted and not assumed. What happens inside a kernel is not seen, but for the copies of oneDNN's
convolutions, which are known: other workspaces and the allocator's holes are the forecast's (plan/forecast.py).
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_finetune.backbones.counting.meta_autocast import Autocast
from hf_finetune.backbones.counting.step_bytes import Moment, StepBytes, largest

log = logging.getLogger(__name__)
# A prime that divides no usual width, number of tokens or window: a storage whose elements it divides is the batch's.
BATCH = 29


def trace_step(
    model: nn.Module,
    size: tuple[int, int],
    *,
    blocks: Sequence[nn.Module] = (),
    autocast: Autocast | None = None,
    backward: bool = True,
    by_onednn: bool = False,
) -> StepBytes | None:
    """What a forward and backward pass of `model` (on the meta device, in its training form) holds beside its weights.

    `size`: height and width of the images, which come as float32 as in training. `blocks`: modules in the order of
    their running, whose savings by recomputation are noted. `autocast`: None where the step needs none. `backward`
    False: a pass without gradients. `by_onednn`: convolutions copy their maps, as on CPUs. The model is left in its
    mode, train or eval. None where it does not run on the meta device.
    """
    gradients = [(weight, weight.grad) for weight in model.parameters()]
    for weight, _ in gradients:
        weight.grad = None
    try:
        return _traced(model, size, blocks, autocast, backward, by_onednn)
    except Exception as error:  # noqa: BLE001  any third-party forward may fail on the meta device; None is the answer
        log.debug("a step could not be counted: %s: %s", type(error).__name__, error)
        return None
    finally:
        for weight, before in gradients:
            weight.grad = before


def _traced(
    model: nn.Module,
    size: tuple[int, int],
    blocks: Sequence[nn.Module],
    autocast: Autocast | None,
    backward: bool,
    by_onednn: bool,
) -> StepBytes:
    device = next(model.parameters()).device
    dtype = next(weight.dtype for weight in model.parameters() if weight.is_floating_point())
    follow = _Follow([*model.parameters(), *model.buffers()], _ONEDNN_COPIES if by_onednn else {})
    again = nullcontext() if autocast is None else autocast.when_run_again(blocks)
    with _entered_and_left(blocks, follow) as saved, again, torch.set_grad_enabled(backward), follow:
        pixels = torch.zeros(BATCH, 3, *size, device=device)
        with autocast or nullcontext():
            logits = model(pixel_values=pixels.to(dtype) if autocast is None else pixels).logits
            if autocast is not None:
                autocast.forget()
            kept, functions = follow.now, _has_functions(logits.grad_fn)
            if backward:
                labels = torch.zeros(BATCH, dtype=torch.long, device=device)
                loss = nn.functional.cross_entropy(logits.float(), labels)
                del logits
                loss.backward()
                del loss
    own = {_key(weight.grad) for weight in model.parameters() if weight.grad is not None}
    moments, gradients = follow.moments(own)
    parts = tuple(saved.get(id(each), (0, 0)) for each in blocks)
    return StepBytes(largest(moments), kept, parts, gradients, follow.changes, functions)


def _has_functions(node: Any) -> bool:
    """Whether the graph behind `node` holds an autograd function that is written in Python."""
    seen: set[Any] = set()
    todo = [node]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        seen.add(node)
        todo += [before for before, _ in node.next_functions]
    return False


class _Follow(TorchDispatchMode):
    """Follows every storage that is made while it is entered; those of `known` are the weights'."""

    def __init__(self, known: Iterable[Tensor], copies: Mapping[Any, Callable[[Any, Any], Sequence[Tensor]]]) -> None:
        super().__init__()
        self._copies = copies
        self._living: dict[int, Any] = {_key(tensor): None for tensor in known}
        self._held = list(known)  # their storages must not be given out again
        self._changes: list[tuple[int, int, int, int]] = []  # storage's key and number, fixed bytes, those of an image
        self._fixed = self._image = 0

    @property
    def now(self) -> tuple[int, int]:
        """Fixed bytes and bytes of an image that live at this moment."""
        return self._fixed, self._image

    def bytes_of(self, value: object) -> tuple[int, int]:
        """The same of a module's output."""
        tensors = {_key(each): each for each in _tensors(value)}
        parts = [_split(each) for each in tensors.values()]
        return sum(fixed for fixed, _ in parts), sum(image for _, image in parts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        quick = _QUICK.get(func.overloadpacket)
        output = None if quick is None or kwargs else quick(*args)
        if output is None:
            output = func(*args, **(kwargs or {}))
        for tensor in _tensors(output):
            self._note(tensor)
        copies = self._copies.get(func.overloadpacket)
        if copies is not None:
            self._note_for_a_moment(copies(args, output))
        return output

    def _note_for_a_moment(self, tensors: Iterable[Tensor]) -> None:
        parts = [_split(each) for each in tensors]
        fixed, image = sum(each[0] for each in parts), sum(each[1] for each in parts)
        number = len(self._changes)
        self._change(0, number, fixed, image)
        self._change(0, number, -fixed, -image)

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._living:
            return
        fixed, image = _split(tensor)
        number = len(self._changes)  # keys are given out again
        self._change(key, number, fixed, image)

        def gone(_: object) -> None:
            if self._living.pop(key, None) is not None:
                self._change(key, number, -fixed, -image)

        self._living[key] = weakref.ref(storage, gone)

    def _change(self, key: int, number: int, fixed: int, image: int) -> None:
        self._fixed, self._image = self._fixed + fixed, self._image + image
        self._changes.append((key, number, fixed, image))

    @property
    def changes(self) -> tuple[tuple[int, int, int], ...]:
        """Number, fixed bytes and those of an image of each making and end."""
        return tuple(each[1:] for each in self._changes)

    def moments(self, gradients: set[int]) -> tuple[list[Moment], int]:
        """After each making, what lived; storages that ended as gradients are counted apart. And all gradients."""
        last = {key: place for place, (key, _, fixed, image) in enumerate(self._changes) if fixed + image > 0}
        made = {last[key] for key in gradients if key in last}
        found: list[Moment] = []
        fixed = image = there = 0
        for place, (_, _, own, each) in enumerate(self._changes):
            if place in made:
                there += own + each * BATCH
            else:
                fixed, image = fixed + own, image + each
            if own + each > 0:
                found.append((fixed, image, there))
        return found or [(0, 0, 0)], there


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _split(tensor: Tensor) -> tuple[int, int]:
    total = tensor.untyped_storage().nbytes()
    return (0, total // BATCH) if total % (BATCH * tensor.element_size()) == 0 else (total, 0)


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [each for part in value.values() for each in _tensors(part)]
    return [each for part in value for each in _tensors(part)] if isinstance(value, list | tuple) else []


@contextmanager
def _entered_and_left(blocks: Sequence[nn.Module], follow: _Follow) -> Iterator[dict[int, tuple[int, int]]]:
    """What the forward pass of each block leaves alive beside its output, by the block's id."""
    begun: dict[int, tuple[int, int]] = {}
    saved: dict[int, tuple[int, int]] = {}

    def enter(module: nn.Module, _: Any) -> None:
        begun[id(module)] = follow.now

    def leave(module: nn.Module, _: Any, output: object) -> None:
        if id(module) in saved:  # recomputed in the backward pass
            return
        now, before, handed = follow.now, begun[id(module)], follow.bytes_of(output)
        # What is fixed is nearly all autocast's copies of the weights, which stay to the end of the forward pass.
        saved[id(module)] = (0, max(0, now[1] - before[1] - handed[1]))

    handles = [each.register_forward_pre_hook(enter) for each in blocks]
    handles += [each.register_forward_hook(leave) for each in blocks]
    try:
        yield saved
    finally:
        for handle in handles:
            handle.remove()


# The meta kernels of a few frequent operations are slow Python (1 to 4 ms a call, torch 2.15): four fifths of a count.
def _same(tensor: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(tensor)


def _alike(one: object, other: object, *_: Any) -> Tensor | None:
    if not isinstance(one, Tensor) or isinstance(other, bool):
        return None
    if isinstance(other, int | float):
        return torch.empty_like(one) if one.is_floating_point() else None
    fits = isinstance(other, Tensor) and other.dtype == one.dtype and other.shape == one.shape
    return torch.empty_like(one) if fits else None


def _product(_: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return one.new_empty(one.shape[0], other.shape[1])


def _normed(x: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    rest = (*x.shape[: x.ndim - len(shape)], *(1 for _ in shape))
    # On CPUs the statistics have the input's type, on GPUs float32: the larger is taken.
    return torch.empty_like(x), x.new_empty(rest, dtype=torch.float32), x.new_empty(rest, dtype=torch.float32)


def _normed_back(
    grad: Tensor, x: Tensor, shape: Any, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, mask: Any
) -> tuple[Tensor | None, ...]:
    del grad, shape, mean, rstd
    made = zip((x, weight, bias), mask, strict=True)
    return tuple(torch.empty_like(each) if wanted and each is not None else None for each, wanted in made)


_aten: Any = torch.ops.aten
_QUICK: dict[Any, Callable[..., Any]] = {
    _aten.gelu: _same,
    _aten.gelu_backward: _same,
    _aten._softmax_backward_data: _same,
    _aten.mul: _alike,
    _aten.add: _alike,
    _aten.addmm: _product,
    _aten.addmm_: lambda result, *_: result,
    _aten.native_layer_norm: _normed,
    _aten.native_layer_norm_backward: _normed_back,
}


# What oneDNN's convolutions copy into its own layouts while they run, beyond what torch hands them (torch 2.15, Xeon;
# docs/experiments.md, "Memory: forecast and measured"): forward the larger of input and output, backward both.
def _forward_copies(args: Any, output: Tensor) -> Sequence[Tensor]:
    return [max(args[0], output, key=Tensor.numel)]


def _backward_copies(args: Any, _: Any) -> Sequence[Tensor]:
    return args[:2]


_ONEDNN_COPIES = {_aten.convolution: _forward_copies, _aten.convolution_backward: _backward_copies}
