"""A checkpoint's tensors as views of its files: the system reads their pages when they are used, and may drop them.

Such pages are no anonymous memory: under pressure they cost a second read and never a swap. Owns the mapping, and
asking for pages ahead of their use. What lies in the files is converted.py's.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hf_finetune.backbones.fingerprint import tensor_places

# Types of a safetensors header that weights come in.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class MappedWeights:
    """The tensors of safetensors `files` by name. A write into one would stay in this process and leave the file alone.

    Raises KeyError for a tensor of a type that no backbone has (8-bit floats, …).
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._files: list[tuple[int, mmap.mmap]] = []
        for path in files:
            self._map(path)

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies in one of the files."""
        return self._place(tensor) is not None

    def read_ahead(self, tensors: Iterable[Tensor]) -> None:
        """Ask for the pages of those that lie in the files; returns before they are there, where the system can."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for tensor in tensors:
            if (place := self._place(tensor)) is not None:
                memory, start = place
                aligned = start // mmap.PAGESIZE * mmap.PAGESIZE
                memory.madvise(mmap.MADV_WILLNEED, aligned, start - aligned + tensor.nbytes)

    def _map(self, path: Path) -> None:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        self._files.append((whole.data_ptr(), memory))
        for name, kind, shape, _, start, end in tensor_places(path):
            self.tensors[name] = _view(whole[start:end], TYPES[kind], json.loads(shape))

    def _place(self, tensor: Tensor) -> tuple[mmap.mmap, int] | None:
        if tensor.device.type != "cpu" or not tensor.numel():
            return None
        address = tensor.data_ptr()
        for first, memory in self._files:
            if first <= address < first + len(memory):
                return memory, address - first
        return None


def _view(data: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    if not data.numel():
        return torch.empty(tuple(shape), dtype=dtype)
    if data.storage_offset() % dtype.itemsize:
        data = data.clone()  # no tensor can begin there
    return data.view(dtype).view(tuple(shape))
