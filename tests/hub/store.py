"""The Hub's repos on disk: DIR/models/ns/name/… and DIR/datasets/ns/name/….

Owns what a repo's files, hashes and commit are, and who may read it. Knows no HTTP. One branch, `main`, whose commit
is a hash over the files: it changes when any file does. A file `.hub.json` beside the repo's files, itself not served,
may hold `{"access": "gated" | "private"}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["models", "datasets"]
TOKEN = "hf_loopback"  # opens gated and private repos of this server; opens nothing anywhere else
SETTINGS = ".hub.json"
# The Hub keeps files with these endings in LFS (its default .gitattributes); their ETag is a SHA-256, not a git SHA-1.
LFS_ENDINGS = {".safetensors", ".bin", ".parquet", ".zip", ".npz", ".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class Entry:
    """One file: path below the repo, size in bytes, git blob id, and the SHA-256 if it is kept in LFS."""

    path: str
    size: int
    oid: str
    sha256: str | None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"type": "file", "path": self.path, "size": self.size, "oid": self.oid}
        if self.sha256 is not None:
            answer["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return answer


@cache
def _hash(path: Path, size: int, modified_ns: int) -> tuple[str, str]:
    content = path.read_bytes()
    del size, modified_ns  # only there to notice a change
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Repo:
    """A repo that exists. Every call reads the folder anew, so that a test may change files while the server runs."""

    kind: Kind
    name: str
    folder: Path

    @property
    def access(self) -> str:
        settings = self.folder / SETTINGS
        return json.loads(settings.read_text())["access"] if settings.is_file() else "public"

    @property
    def licence(self) -> str | None:
        """`license:` in the head of README.md, the only field of the card that is read."""
        card = self.folder / "README.md"
        match = re.match(r"---\n(?:.*\n)*?license: *(\S+)\n", card.read_text()) if card.is_file() else None
        return match[1] if match else None

    def entries(self) -> list[Entry]:
        return [self._entry(path) for path in self._files()]

    def entry(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries() if entry.path == path), None)

    @property
    def commit(self) -> str:
        listing = "\n".join(f"{entry.path} {entry.oid}" for entry in self.entries())
        return hashlib.sha1(listing.encode()).hexdigest()

    def knows(self, revision: str) -> bool:
        return revision in ("main", "refs/heads/main", self.commit)

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        """Files and folders under `below` ('' is the root) as the API lists them; [] where there is no such folder."""
        prefix = f"{below}/" if below else ""
        inside = [entry for entry in self.entries() if entry.path.startswith(prefix)]
        folders: dict[str, None] = {}
        for entry in inside:
            parts = entry.path[len(prefix) :].split("/")[:-1]
            for depth in range(1, len(parts) + 1 if recursive else min(len(parts), 1) + 1):
                folders[prefix + "/".join(parts[:depth])] = None
        listed = [
            {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
            for path in folders
        ]
        return listed + [e.as_json() for e in inside if recursive or "/" not in e.path[len(prefix) :]]

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != SETTINGS:
                yield path

    def _entry(self, path: Path) -> Entry:
        status = path.stat()
        sha1, sha256 = _hash(path, status.st_size, status.st_mtime_ns)
        in_lfs = path.suffix.lower() in LFS_ENDINGS
        return Entry(path.relative_to(self.folder).as_posix(), status.st_size, sha1, sha256 if in_lfs else None)


def find(root: Path, kind: Kind, name: str) -> Repo | None:
    """The repo called `ns/name`, or None. A name that leaves the folder is no repo."""
    folder = root / kind / name
    if ".." in Path(name).parts or not folder.is_dir():
        return None
    return Repo(kind, name, folder)
