"""A checkpoint's weights written anew in the type that a run computes in, tensor by tensor, so that they can be mapped.

Owns what is written. Where it lies, and when it may be trusted, is result/frozen_files.py's.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

from hf_finetune.backbones.fingerprint import tensor_places
from hf_finetune.backbones.streaming.mapped import TYPES, MappedWeights

_NAMES = {kind: name for name, kind in TYPES.items()}
_BLOCK = 1 << 22


def are_of(files: Sequence[Path], dtype: torch.dtype) -> bool:
    """Whether the files can be mapped as they are: safetensors whose floating-point tensors are all of `dtype`."""
    if any(path.suffix != ".safetensors" for path in files):
        return False
    kinds = [TYPES[kind] for path in files for _, kind, *_ in tensor_places(path)]
    return all(kind == dtype for kind in kinds if kind.is_floating_point)


def converted_bytes(files: Sequence[Path], dtype: torch.dtype) -> int:
    """What `convert` will write, but for its header."""
    return sum(_size(tensor, dtype) for tensor in tensors_of(files).values())


def convert(files: Sequence[Path], target: Path, dtype: torch.dtype) -> int:
    """Write one safetensors file with every tensor of `files`, those in floating point as `dtype`; gives its CRC-32.

    Holds one tensor at a time, but for pickles in torch's old format (no zip archive). Raises OSError.
    """
    tensors = tensors_of(files)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + _size(tensor, dtype)
        header[name] = {
            "dtype": _NAMES[_kind(tensor, dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)  # so that tensors begin where vector instructions like them
    crc = 0
    with target.open("wb") as file:
        for data in _contents(text, tensors, dtype):
            crc = zlib.crc32(data, crc)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return crc


def checksum(path: Path) -> int:
    """CRC-32 of a file's bytes."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def tensors_of(files: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, mapped and not read as far as the format allows."""
    found: dict[str, Tensor] = {}
    for path in files:
        if path.suffix == ".safetensors":
            found |= MappedWeights([path]).tensors
            continue
        loaded: Mapping[str, object] = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        found |= {name: each for name, each in loaded.items() if isinstance(each, Tensor)}
    return found


def _contents(header: bytes, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little") + header
    for tensor in tensors.values():
        value = tensor.to(_kind(tensor, dtype)).contiguous().reshape(-1)
        if value.numel():
            bytes_of: Any = value.view(torch.uint8).numpy()
            yield memoryview(bytes_of)


def _kind(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype


def _size(tensor: Tensor, dtype: torch.dtype) -> int:
    return tensor.numel() * _kind(tensor, dtype).itemsize
