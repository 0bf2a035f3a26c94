"""Frozen weights that stay on the host while a device computes: two slots of device memory that blocks take turns in.

Block i computes from slot i mod 2 while block i ± 1 is copied into the other one, on a stream of its own. What trains,
and what belongs to no block, is on the device throughout.

Autograd keeps the weights that a backward pass needs, and a slot is another block's by then. So no reference to a slot
is kept: where a tensor that lies in one would be saved, its place is, and the block is brought back when the place is
asked for. This holds for what goes through autograd's own saving (`save_for_backward`); a function that keeps a weight
on its context would read another block's. In a block that is recomputed (torch.utils.checkpoint) nothing is saved, and
its weights are brought back by running it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from hf_finetune.backbones.streaming.order import watch_blocks

logger = logging.getLogger(__name__)
_ALIGNED = 256  # bytes; kernels read from there as from memory of their own


@dataclass(frozen=True)
class _Weight:
    """A frozen weight of a block: the module and attribute that it is, on the host and in the block's slot."""

    module: nn.Module
    name: str
    host: Tensor
    device: Tensor


@dataclass(frozen=True)
class _Place:
    """Where in a block's slot a saved tensor lies; `offset` in elements of `dtype`."""

    block: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class BlockSlots:
    """Takes the frozen weights of `blocks` out of `model`, moves the rest to `device`, and brings each block in ahead
    of its use.

    A frozen weight is no parameter of its module any longer, but a plain attribute: `parameters()` and `to()` leave it
    out. Weights that several blocks share, or a block and the rest, go to the device for good. `pinned`: the host's
    copy in page-locked memory, which a copy can be made from while kernels run; without it, or where the system gives
    none, weights stay as they are.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module], device: str, *, pinned: bool) -> None:
        self._device = torch.device(device)
        self.pinned = pinned and self._device.type != "cpu"
        found = [_frozen(block, alone) for alone in [_owned_once(model, blocks)] for block in blocks]
        sizes = [sum(_room(host) for _, _, host in each) for each in found]
        self.slots = [torch.empty(max(sizes), dtype=torch.uint8, device=self._device) for _ in range(2)]
        self._storages = [slot.untyped_storage().data_ptr() for slot in self.slots]
        self._weights = [self._park(each, self.slots[number % 2]) for number, each in enumerate(found)]
        self._holds: list[int | None] = [None, None]
        cuda = self._device.type == "cuda"
        self._side = torch.cuda.Stream(self._device) if cuda else None
        self._copied = [torch.cuda.Event() if cuda else None for _ in range(2)]
        self._saving: list[saved_tensors_hooks] = []
        model.to(self._device)
        watch_blocks(blocks, self._use)
        for block in blocks:  # after the hooks above: the block is in its slot when it runs
            block.register_forward_pre_hook(self._begin_saving)
            block.register_forward_hook(self._end_saving, always_call=True)

    # ------------------------------------------------------------------------------------------------------ the slots

    def _park(self, found: Sequence[tuple[nn.Module, str, Tensor]], slot: Tensor) -> list[_Weight]:
        parked, offset = [], 0
        for module, name, host in found:
            view = slot[offset : offset + host.nbytes].view(host.dtype).view(host.shape)
            offset += _room(host)
            del module._parameters[name]
            host = self._pin(host)
            setattr(module, name, host)  # on the wrong device: a use out of turn fails
            parked.append(_Weight(module, name, host, view))
        return parked

    def _pin(self, host: Tensor) -> Tensor:
        if not self.pinned:
            return host
        try:
            return host.pin_memory()
        except RuntimeError as error:
            self.pinned = False
            logger.warning("No more page-locked memory (%s): copies of the other blocks wait for the host.", error)
            return host

    def _use(self, number: int, following: int | None) -> None:
        """Have block `number` in its slot for what is asked of the device from here on, and begin with the next one."""
        self._bring(number)
        if self._side is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied[number % 2])  # pyright: ignore[reportArgumentType]
        for weight in self._weights[number]:
            if getattr(weight.module, weight.name) is not weight.device:
                setattr(weight.module, weight.name, weight.device)
        if following is not None:
            self._bring(following)

    @torch.no_grad()
    def _bring(self, number: int) -> None:
        slot = number % 2
        if self._holds[slot] == number:
            return
        self._holds[slot] = None  # until all of it is asked for
        if self._side is None:
            for weight in self._weights[number]:
                weight.device.copy_(weight.host)
        else:
            # What has been asked for up to now may still read the block that is there.
            self._side.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._side):
                for weight in self._weights[number]:
                    weight.device.copy_(weight.host, non_blocking=True)
                self._copied[slot].record(self._side)  # pyright: ignore[reportOptionalMemberAccess]
        self._holds[slot] = number

    # ----------------------------------------------------------------------------------------------- what is saved

    def _begin_saving(self, _block: nn.Module, _inputs: object) -> None:
        """Keep places instead of weights, unless whoever recomputes this block keeps nothing at all."""
        taken = torch._C._autograd._top_saved_tensors_default_hooks(False) is not None  # pyright: ignore[reportAttributeAccessIssue]
        hooks = saved_tensors_hooks(self._pack, self._unpack)
        if torch.is_grad_enabled() and not taken:
            hooks.__enter__()
            self._saving.append(hooks)

    def _end_saving(self, _block: nn.Module, _inputs: object, _output: object) -> None:
        if self._saving:
            self._saving.pop().__exit__(None, None, None)

    def _pack(self, tensor: Tensor) -> Tensor | _Place:
        if tensor.device.type != self._device.type or tensor.untyped_storage().data_ptr() not in self._storages:
            return tensor.detach()  # the tensor itself would hold the graph that holds it
        held = self._holds[self._storages.index(tensor.untyped_storage().data_ptr())]
        if held is None:
            raise RuntimeError("a weight was used after its block had left the slot")
        return _Place(held, tensor.dtype, tensor.size(), tensor.stride(), int(tensor.storage_offset()))

    def _unpack(self, kept: Tensor | _Place) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        self._use(kept.block, kept.block - 1 if kept.block else None)
        slot = self.slots[kept.block % 2].view(kept.dtype)
        return slot.as_strided(kept.size, kept.stride, kept.offset)


def _owned_once(model: nn.Module, blocks: Sequence[nn.Module]) -> set[int]:
    """The frozen weights, by identity, that one module of one block alone has."""
    owners: Counter[int] = Counter()
    for module in model.modules():
        owners.update(id(weight) for weight in module.parameters(recurse=False))
    shared = Counter(id(weight) for block in blocks for weight in block.parameters())
    return {key for key, blocks_with_it in shared.items() if blocks_with_it == 1 and owners[key] == 1}


def _frozen(block: nn.Module, alone: set[int]) -> list[tuple[nn.Module, str, Tensor]]:
    return [
        (module, name, weight.detach())
        for module in block.modules()
        for name, weight in module.named_parameters(recurse=False)
        if not weight.requires_grad and id(weight) in alone
    ]


def _room(weight: Tensor) -> int:
    return -(-weight.nbytes // _ALIGNED) * _ALIGNED
