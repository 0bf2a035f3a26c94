"""Checkpoints that can be trusted: sealed once wholly written, and only sealed ones are resumed from.

The Trainer writes a checkpoint in place, file after file; a process killed in between leaves one that looks complete by
its name. A seal is a small file, written last, that lists every file with its size and hash, and says of which run it
is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_finetune.files.whole_file import sync_file, sync_folder, write_whole
from hf_finetune.machine.disk import follow_umask

SEAL = "sealed.json"
logger = logging.getLogger(__name__)


def seal(checkpoint: Path, of: Mapping[str, Any] | None = None) -> None:
    """Mark a checkpoint as whole, and as one `of` a run that began so."""
    follow_umask(checkpoint)
    files = {path.relative_to(checkpoint).as_posix(): _describe(path) for path in _files(checkpoint)}
    for name in files:
        sync_file(checkpoint / name)
    sync_folder(checkpoint)
    write_whole(checkpoint / SEAL, json.dumps({"files": files, "of": dict(of or {})}, indent=1))


def seal_and_thin_out(checkpoint: Path, best: Path | None, of: Mapping[str, Any] | None = None) -> None:
    """Mark a checkpoint as whole; then remove all others but the `best`, or the one before where this is the best.
    Until then what was there stays: a process may be killed at any time, and a file be damaged later."""
    seal(checkpoint, of)
    _, *others = _checkpoints(checkpoint.parent)
    spared = best.name if best is not None and best != checkpoint else others[0].name if others else None
    for path in others:
        if path.name != spared:
            shutil.rmtree(path, ignore_errors=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether the seal is there and every file is as it was sealed."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
        return bool(sealed) and all(_describe(checkpoint / name) == described for name, described in sealed.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def sealed_with(folder: Path) -> Mapping[str, Any] | None:
    """What the newest checkpoint that has a seal is one of; None where there is none."""
    for checkpoint in _checkpoints(folder):
        try:
            return dict(json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["of"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return None


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that can be resumed from; broken newer ones are set aside as `broken-…`."""
    return next((checkpoint for checkpoint in _checkpoints(folder) if is_sound(checkpoint)), None)


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint is whole; one that is not is set aside as `broken-…`."""
    if is_whole(checkpoint):
        return True
    if checkpoint.exists():
        aside = checkpoint.with_name(f"broken-{checkpoint.name}")
        logger.warning("%s is incomplete or damaged; set aside as %s.", checkpoint.name, aside.name)
        shutil.rmtree(aside, ignore_errors=True)  # of an earlier failure at the same step
        checkpoint.replace(aside)
    return False


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))


def _describe(path: Path) -> list[int | str]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "blake2b").hexdigest()]
