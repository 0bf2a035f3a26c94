"""The files that a run's streamed weights stay in: the checkpoint's own, or one in the cache that was converted once.

    <cache>/store/<key>/meta.json            what it is, with the CRC-32 of the weights; written last
                        model.safetensors    the checkpoint's tensors in the type that the run computes in

Entries lie among the image store's, are counted, expire and are cleared with them (data/store/cache.py). The key
changes with the checkpoint's weights and with the type.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.data.store.expiry import META, make_room, sweep
from hf_finetune.errors import MachineError
from hf_finetune.files.cache import cache_root, locked
from hf_finetune.units import format_bytes

if TYPE_CHECKING:
    import torch

    from hf_finetune.backbones.config import Model

logger = logging.getLogger(__name__)
FORMAT = 1
WEIGHTS = "model.safetensors"
# What is left free on the disk beside the file: a run folder, and the images of a small data set.
_SPARE_BYTES = 200_000_000


def files_for(
    stream: str, device: str, model: Model, dtype: torch.dtype, cache_dir: str | None = None
) -> Sequence[Path]:
    """The files that frozen weights stay in where `stream` (off, host, disk) means that on `device`; else none.

    Raises as `frozen_files`.
    """
    if stream == "off" or (stream == "host" and device != "cpu"):
        return ()
    return frozen_files(model, dtype, Path(cache_dir).expanduser() if cache_dir else None)


def frozen_files(model: Model, dtype: torch.dtype, cache_dir: Path | None = None) -> list[Path]:
    """Safetensors files that hold the checkpoint in `dtype`: its own, else one that is converted below `cache_dir`.

    A converted file is read once to be trusted, and made again where it is damaged. Raises MachineError where the cache
    cannot be written or has no room, ModelError where the weights are not on this machine.
    """
    from hf_finetune.backbones.checkpoint import find
    from hf_finetune.backbones.fingerprint import fingerprint, weight_files
    from hf_finetune.backbones.streaming.converted import are_of

    files = weight_files(find(model))
    if are_of(files, dtype):
        return files
    root = cache_root(cache_dir)
    described = {"format": FORMAT, "weights": fingerprint(model), "dtype": str(dtype)}
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
    try:
        found = _trusted(root / key, described)
        if found is not None:
            return [found]
        with locked(root, key):
            return [_trusted(root / key, described) or _converted(root, key, described, files, dtype)]
    except OSError as error:
        raise MachineError(
            f"model.stream: the weights of {model.name!r} are to be kept as {_short(dtype)} in {root}, which cannot be "
            f"written: {error.strerror or error}.",
            f"Set HF_FINETUNE_CACHE (or data.cache_dir) to a folder on a disk with room, give a checkpoint that is "
            f"saved in {_short(dtype)}, or set model.stream=off.",
        ) from error


def _trusted(folder: Path, described: dict[str, object]) -> Path | None:
    """The entry's weights, its last use noted; None where there are none, or they are not what was written."""
    from hf_finetune.backbones.streaming.converted import checksum

    weights = folder / WEIGHTS
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if {name: meta.get(name) for name in described} != described:
            raise ValueError("its description does not match")
        if weights.stat().st_size != meta["bytes"] or checksum(weights) != meta["crc32"]:
            raise ValueError("it is damaged")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        logger.warning("converted weights %s cannot be trusted (%s); they are made again", folder.name, error)
        return None
    with suppress(OSError):  # on a disk that can only be read
        os.utime(folder / META)
    return weights


def _converted(root: Path, key: str, described: dict[str, object], files: Sequence[Path], dtype: torch.dtype) -> Path:
    """Make the entry. The lock must be held. Raises OSError, MachineError."""
    from hf_finetune.backbones.streaming.converted import convert, converted_bytes

    sweep(root, key)
    needed = converted_bytes(files, dtype) + _SPARE_BYTES
    make_room(root, needed, {key})
    if (free := shutil.disk_usage(root).free) < needed:
        raise MachineError(
            f"model.stream: the frozen weights as {_short(dtype)} take {format_bytes(needed - _SPARE_BYTES)} of disk, "
            f"and {root} has {format_bytes(free)} free, of which {format_bytes(_SPARE_BYTES)} are left for the run.",
            "Set HF_FINETUNE_CACHE (or data.cache_dir) to a folder on a larger disk, `hf-finetune cache clear`, or set "
            "model.stream=off.",
        )
    logger.info("Writing the frozen weights as %s into %s, once.", _short(dtype), root)
    folder = root / f"{key}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        crc = convert(files, folder / WEIGHTS, dtype)
        meta = {**described, "bytes": (folder / WEIGHTS).stat().st_size, "crc32": crc}
        meta["written_by"] = {"pid": os.getpid(), "host": platform.node(), "time": time.time()}
        with (folder / META).open("w", encoding="utf-8") as file:
            json.dump(meta, file)
            file.flush()
            os.fsync(file.fileno())
        final = root / key
        if final.exists():  # damaged, or it would have been found
            shutil.rmtree(final)
        folder.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return final / WEIGHTS


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
