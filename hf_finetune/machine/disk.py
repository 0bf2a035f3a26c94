"""Writes that fail (a full disk, a quota, a folder that may not be written to), and who may read what was written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_finetune.errors import MachineError, first_line


@contextmanager
def failed_writes_are_said(folder: Path, hint: str, *, key: str = "") -> Iterator[None]:
    """Turn a failed write (the system's error, safetensors' or torch's own) into a MachineError that names `folder`.

    `key`: the setting that names it, in front of the message. What else goes wrong inside is passed on: an error of the
    network, or of a library's own that has no number of the system's.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_of_a_write(error):
            raise
        name = f"{key}: {folder}" if key else str(folder)
        raise MachineError(f"{name} could not be written to: {first_line(error)}.", hint) from error


def follow_umask(folder: Path) -> None:
    """Give every file below `folder` the mode that the umask gives a new one.

    safetensors (0.8) writes by a temporary file that its owner alone may read, and keeps that mode; a copied file keeps
    its original's. The umask is seen by a new file, since asking the system for it changes it for all threads.
    """
    probe = folder / f".{secrets.token_hex(4)}"
    probe.touch(exist_ok=False)
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o777 != mode:
            file.chmod(mode)


def _is_of_a_write(error: Exception) -> bool:
    if isinstance(error, OSError):
        return (error.errno or 0) > 0 and not isinstance(error, ConnectionError | TimeoutError)
    # torch.save reports a failed write as a RuntimeError of its zip writer; other RuntimeErrors are not ours.
    return not isinstance(error, RuntimeError) or "PytorchStreamWriter" in str(error)
