"""Finds a saved adapter that a recipe starts from: a local folder, or a model of the Hub at one commit.

Owns where its files come from and every refusal on the way. What is in them is start.py's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hf_finetune.errors import AdapterError
from hf_finetune.network.fetch import fetch

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
LABELS = "config.json"
OURS = "hf_finetune.json"
_FILES = (CONFIG, WEIGHTS, LABELS, OURS)
_LOOK = (
    "a Hub id such as user/adapter or user/adapter@revision, or a folder that holds adapter_config.json, is expected"
)


@dataclass(frozen=True)
class Fetched:
    """An adapter's files: `name` as a person calls it, `folder` on this machine, `commit` (None: a local folder)."""

    name: str
    folder: Path
    commit: str | None


def fetch_adapter(written: str) -> Fetched:
    """The adapter that `adapter.from` names: `user/other`, `user/other@revision`, a folder, or a run folder.

    From the Hub only the adapter's own files are fetched, never a pickle. Raises AdapterError where it is absent,
    private, gated or out of reach, or holds no safetensors.
    """
    folder = Path(written).expanduser()
    if folder.is_dir():
        inside = folder / "adapter"  # a run folder of ours
        folder = inside if not (folder / CONFIG).is_file() and (inside / CONFIG).is_file() else folder
        return _checked(Fetched(written, folder.resolve(), None), {entry.name for entry in folder.iterdir()})
    name, _, revision = written.partition("@")
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or folder.is_absolute():
        raise AdapterError(f"adapter.from: there is no folder {written!r}", _LOOK)
    return _from_hub(name, revision or None)


def _from_hub(name: str, revision: str | None) -> Fetched:
    from huggingface_hub import snapshot_download

    def files() -> str:
        return snapshot_download(name, revision=revision, allow_patterns=list(_FILES))

    folder = fetch(files, name, revision, AdapterError, key="adapter.from", look=_LOOK)
    found = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if not {CONFIG, WEIGHTS} <= found:
        found |= _listed(name, folder.name)
    return _checked(Fetched(name, folder, folder.name), found)


def _listed(name: str, commit: str) -> set[str]:
    """What the repo holds beside the files that are fetched; nothing where the Hub cannot be asked."""
    from huggingface_hub import HfApi, errors

    try:
        return set(HfApi().list_repo_files(name, revision=commit))
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError):
        return set()


def _checked(fetched: Fetched, found: set[str]) -> Fetched:
    where = f"adapter.from: {fetched.name!r}"
    if CONFIG not in found:
        if {"model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"} & found:
            raise AdapterError(f"{where} is a whole model, not an adapter", f"set model.name={fetched.name} instead")
        raise AdapterError(f"{where} holds no {CONFIG}", _LOOK)
    if WEIGHTS not in found:
        if PICKLE in found:
            raise AdapterError(
                f"{where} holds its weights only as {PICKLE}, a pickle, which can run any code when it is read",
                f"ask its author for {WEIGHTS} (PEFT writes it unless told otherwise)",
            )
        raise AdapterError(f"{where} holds no {WEIGHTS}", "it is incomplete: fetch or save it again")
    for name in (CONFIG, WEIGHTS):
        if not os.access(fetched.folder / name, os.R_OK):
            raise AdapterError(f"{where}: {name} cannot be read", "check its permissions, or fetch it again")
    return fetched
