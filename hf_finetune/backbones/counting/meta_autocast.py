"""Autocast for the meta device, on which torch's own does nothing: the same casts, as far as memory is concerned.

Which functions cast is read in torch 2.15 (aten/src/ATen/autocast_mode.h); functions that matter to no image model are
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode

_PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
        *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm),
        *(functional.linear, functional.scaled_dot_product_attention, functional.bilinear),
        *(torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d),
        *(functional.conv1d, functional.conv2d, functional.conv3d, functional.conv_transpose2d),
    }
)
# On GPUs alone: CPUs compute these in the type they get.
_FLOAT: frozenset[Callable[..., Any]] = frozenset(
    {
        *(functional.layer_norm, functional.group_norm, torch.layer_norm, torch.group_norm),
        *(functional.softmax, torch.softmax, Tensor.softmax, functional.log_softmax, functional.softplus),
        *(torch.norm, Tensor.norm, functional.normalize, torch.exp, Tensor.exp, torch.pow, Tensor.pow),
        *(torch.rsqrt, Tensor.rsqrt, torch.cumsum, Tensor.cumsum),
    }
)


class Autocast(TorchFunctionMode):
    """While it is entered, products are computed in `dtype`; on a GPU, norms and softmaxes in float32."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self._dtype, self._on_gpu = dtype, device != "cpu"
        self._cast: dict[int, tuple[Tensor, Tensor]] = {}  # weights and their copies, kept to the end of the forward

    def forget(self) -> None:
        """Drop the copies of weights, as at the end of a forward pass."""
        self._cast.clear()

    @contextmanager
    def when_run_again(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Inside, blocks that a backward pass runs again do so under the same casts, as torch's checkpoint has it."""

        def casting(block: nn.Module) -> Callable[..., Any]:
            whole = block._call_impl

            def call(*args: Any, **kwargs: Any) -> Any:
                if _get_current_function_mode() is not None:
                    return whole(*args, **kwargs)
                with Autocast(self._dtype, "cuda" if self._on_gpu else "cpu"):
                    return whole(*args, **kwargs)

            return call

        for block in blocks:
            block.__dict__["_call_impl"] = casting(block)
        try:
            yield
        finally:
            for block in blocks:
                block.__dict__.pop("_call_impl", None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS:
            args, kwargs = self._to(args, self._dtype), self._to(kwargs, self._dtype)
        elif self._on_gpu and func in _FLOAT:
            args, kwargs = self._to(args, torch.float32), self._to(kwargs, torch.float32)
        return func(*args, **kwargs)

    def _to(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, Tensor):
            return self._one(value, dtype) if value.is_floating_point() and value.dtype != dtype else value
        if isinstance(value, dict):
            return {name: self._to(each, dtype) for name, each in value.items()}
        return type(value)(self._to(each, dtype) for each in value) if isinstance(value, list | tuple) else value

    def _one(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if not (tensor.requires_grad and tensor.is_leaf and tensor.dtype == torch.float32):
            return tensor.to(dtype)
        if id(tensor) not in self._cast:
            self._cast[id(tensor)] = tensor, tensor.to(dtype)
        return self._cast[id(tensor)][1]
