"""Tell one base from another by its weights: a sha256 over tensors, whatever files they lie in."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_finetune.backbones.checkpoint import Checkpoint, find
from hf_finetune.backbones.config import Model
from hf_finetune.errors import ModelError

logger = logging.getLogger(__name__)
LARGEST_HEADER = 100_000_000  # bytes: safetensors' own bound


def fingerprint(model: Model) -> str:
    """sha256 (hex) over every tensor's name, type, shape and bytes in the order of names.

    Sharding, metadata and the order inside safetensors files do not change it; a pickle checkpoint is hashed as bytes.
    Raises ModelError where the weights are not on this machine.
    """
    files = weight_files(find(model))
    digest = hashlib.sha256()
    if all(path.suffix == ".safetensors" for path in files):
        for name, kind, shape, file, start, end in sorted(entry for path in files for entry in tensor_places(path)):
            digest.update(f"{name}\0{kind}\0{shape}\0".encode())
            _hash_range(digest, Path(file), start, end)
    else:
        _tell_of_pickle(str(files[0]))
        for path in sorted(files):
            _hash_range(digest, path, 0, path.stat().st_size)
    return digest.hexdigest()


@functools.cache
def _tell_of_pickle(path: str) -> None:
    """Once for each."""
    logger.info(
        "%s is a pickle: torch reads its tensors alone (weights_only), and runs no code of it. The same as "
        "model.safetensors would be safe by its format.",
        Path(path).name,
    )


def tensor_places(path: Path) -> list[tuple[str, str, str, str, int, int]]:
    """Name, type, shape, file, first byte and the one behind the last of each tensor of a safetensors file.

    The file is 8 bytes of header length (little-endian), a JSON header, the data. Raises ModelError where it is not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LARGEST_HEADER, size):
            raise _damaged(path, f"its header is to be {length:,} bytes of {size:,}")
        try:
            header = json.loads(file.read(length))
            places = [_place(name, about, path, 8 + length) for name, about in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, f"its header cannot be read ({type(error).__name__})") from None
    if any(not 0 <= start <= end <= size for *_, start, end in places):
        raise _damaged(path, "a tensor is to lie outside of the file")
    return places


def _place(name: str, about: Mapping[str, Any], path: Path, data: int) -> tuple[str, str, str, str, int, int]:
    start, end = about["data_offsets"]
    return name, str(about["dtype"]), str(about["shape"]), str(path), data + int(start), data + int(end)


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"the weights file {path.name} is damaged: {why}", "fetch it again")


def _hash_range(digest: hashlib._Hash, path: Path, start: int, end: int) -> None:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            block = file.read(min(1 << 22, end - start))
            if not block:
                raise ModelError(f"the weights file {path.name} ends early", "fetch it again")
            digest.update(block)
            start += len(block)


def weight_files(source: Checkpoint) -> list[Path]:
    """The checkpoint's files of weights on this machine, shards in order. Raises ModelError where there are none."""
    folder = Path(source.location)
    for index, single in (
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
    ):
        found = _fetch(source, folder, single)
        if found is not None:
            return [found]
        listing = _fetch(source, folder, index)
        if listing is not None:
            shards = sorted(set(json.loads(listing.read_text(encoding="utf-8"))["weight_map"].values()))
            return [path for shard in shards if (path := _fetch(source, folder, shard)) is not None]
    raise ModelError(
        f"model.name: {source.name!r} holds no weights", "model.safetensors or pytorch_model.bin is expected"
    )


def _fetch(source: Checkpoint, folder: Path, name: str) -> Path | None:
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(source.location, name, revision=source.commit or source.revision))
    except errors.EntryNotFoundError:
        return None
