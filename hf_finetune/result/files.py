"""Which files of a result may leave this machine: an allowlist. Anything that it does not name stays here."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

CARD = "README.md"
_WHOLE = r"config\.json|preprocessor_config\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
_PUBLISHED = re.compile(
    r"README\.md|hf_finetune\.json|recipe\.yaml|metrics\.json|predicted\.png|typical\.safetensors"
    r"|adapter_config\.json|adapter_model\.safetensors"
    rf"|(base/)?({_WHOLE})"
)
# The same list in the shell patterns that huggingface_hub's downloads take.
_WHOLE_PATTERNS = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")
PATTERNS = (
    *("README.md", "hf_finetune.json", "recipe.yaml", "metrics.json", "predicted.png", "typical.safetensors"),
    *("adapter_config.json", "adapter_model.safetensors", *_WHOLE_PATTERNS),
    *(f"base/{pattern}" for pattern in _WHOLE_PATTERNS),
)


def is_published(path: str) -> bool:
    """Whether a file of that path (with `/`, below the result folder) belongs to a published result."""
    return _PUBLISHED.fullmatch(path) is not None


def published(folder: Path) -> list[str]:
    """The paths of the folder's files that the list allows, sorted."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if is_published(path))


@dataclass(frozen=True)
class LocalFile:
    """A file to publish: its place, its size in bytes, and the two hashes by which the Hub knows contents."""

    path: Path
    size: int
    sha256: str
    git_oid: str


def local_files(folder: Path) -> dict[str, LocalFile]:
    """Path below the folder → file, for everything that the list allows."""
    return {name: _read(folder / name) for name in published(folder)}


def _read(path: Path) -> LocalFile:
    size = path.stat().st_size
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)  # git's id of a blob
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha256.update(block)
            sha1.update(block)
    return LocalFile(path, size, sha256.hexdigest(), sha1.hexdigest())


def hashes(folder: Path) -> dict[str, str]:
    """Path → sha256 of everything that the list allows but the card, which each push writes anew."""
    return {name: sha256_of(folder / name) for name in published(folder) if name != CARD}


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
