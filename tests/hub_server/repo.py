"""One repo on disk: its history, its content, and the folder that is the checkout of `main`.

Owns what is kept where and in which order it is written; one lock per repo. A test may change files in the checkout:
the next request records them as a new commit. A push writes content first, then the history, then the checkout, and
the history says which commit the checkout shows, so that one that broke off in between is finished at the next start.
Readers are answered from the content by hash and never see half of a push.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.hub_server import attributes, card_schema
from tests.hub_server.blobs import Blobs, read_blocks
from tests.hub_server.history import Commit, Entry, History, Tree, git_hash, lfs_entry
from tests.hub_server.push import Push, PushError, apply

Kind = Literal["models", "datasets"]
SETTINGS = ".hub.json"  # in the checkout, never served: {"access": "public" | "gated" | "private", "granted": [users]}
# A file changed this shortly before it was hashed may change again within one tick of the clock (git's "racy" rule).
RACY_NS = 50_000_000


@dataclass(frozen=True)
class _Seen:
    """A file of the checkout as it was when it was hashed."""

    size: int
    modified_ns: int
    inode: int
    sha256: str
    hashed_ns: int


class GoneError(Exception):
    """The repo was deleted or renamed since it was found."""


class Repo:
    """A repo that exists: `folder` is its checkout, `state` holds the rest and is not served."""

    def __init__(self, kind: Kind, name: str, folder: Path, state: Path) -> None:
        self.kind: Kind = kind
        self.name = name
        self.folder = folder
        self.state = state
        self.lock = threading.RLock()
        self.blobs = Blobs(state / "blobs")
        self._seen: dict[str, _Seen] = {}
        saved = state / "history.json"
        self.history = History.from_json(json.loads(saved.read_text())) if saved.is_file() else History()

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    @property
    def settings(self) -> dict[str, Any]:
        path = self.folder / SETTINGS
        return json.loads(path.read_text()) if path.is_file() else {}

    @property
    def access(self) -> str:
        return self.settings.get("access", "public")

    @property
    def granted(self) -> list[str]:
        """The users who were let into a gated repo, besides its owners."""
        return self.settings.get("granted", ["loopback"])

    def change_settings(self, **changes: Any) -> None:
        with self.lock:
            _replace(self.folder / SETTINGS, json.dumps(self.settings | changes))

    def card(self, commit: Commit) -> dict[str, Any]:
        """The metadata of README.md at `commit`; {} where there is none that can be read."""
        entry = commit.tree.get("README.md")
        if entry is None:
            return {}
        return card_schema.metadata(self.blobs.path(entry.sha256).read_text(encoding="utf-8", errors="replace"))

    def find(self, revision: str) -> Commit | None:
        """The commit that `revision` names, after what a test may have changed in the checkout was recorded."""
        with self.lock:
            self.record()
            return self.history.find(revision)

    def record(self, title: str = "Upload files", author: str = "system") -> None:
        """Make the checkout's files the newest commit of main, if they are not that already."""
        with self.lock:
            if not self.folder.is_dir():
                raise GoneError(self.name)
            head = self.history.head()
            if head is not None and self.history.checkout != head.id:
                self._write_checkout(head)
                return
            before: Tree = head.tree if head is not None else {}
            tree = {path: self._entry(path, file, before.get(path)) for path, file in self._files()}
            if head is None or tree != head.tree:
                self.history.append("main", tree, title, "", author)
                self.history.checkout = self.history.branches["main"]
                self.save()

    def commit(self, branch: str, push: Push, author: str) -> Commit:
        """Put a push on top of `branch`. One that changes nothing gives the head. Raises PushError."""
        with self.lock:
            self.record()
            head = self.history.head(branch)
            if head is None:
                raise PushError(f"Invalid rev id: {branch}", 404, "RevisionNotFound")
            if push.parent is not None and not head.id.startswith(push.parent.lower()):
                raise PushError("A commit has happened since. Please refresh and try again.", 412, "StaleParent")
            tree = apply(push, head.tree, self.blobs, self.kind)
            if tree == head.tree:
                return head
            commit = self.history.append(branch, tree, push.title, push.message, author)
            self.save()
            if branch == "main":
                self._write_checkout(commit)
            return commit

    def save(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        _replace(self.state / "history.json", json.dumps(self.history.as_json()))

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != SETTINGS:
                yield path.relative_to(self.folder).as_posix(), path

    def _entry(self, path: str, file: Path, before: Entry | None) -> Entry:
        sha256, size = self._hash(path, file)
        if before is not None and (before.sha256, before.size) == (sha256, size):
            return before
        if attributes.in_lfs(path, size):
            return lfs_entry(path, sha256, size)
        return Entry(path, size, git_hash(self.blobs.path(sha256).read_bytes()), sha256, lfs=False)

    def _hash(self, path: str, file: Path) -> tuple[str, int]:
        """SHA-256 and size of a file of the checkout, whose content is then among the blobs."""
        status, seen = file.stat(), self._seen.get(path)
        if (
            seen is not None
            and (seen.size, seen.modified_ns, seen.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)
            and seen.hashed_ns - seen.modified_ns > RACY_NS
        ):
            return seen.sha256, seen.size
        now = time.time_ns()
        sha256, size = self.blobs.add(read_blocks(file))
        self._seen[path] = _Seen(size, status.st_mtime_ns, status.st_ino, sha256, now)
        return sha256, size

    def _write_checkout(self, commit: Commit) -> None:
        there = dict(self._files())
        for path in there.keys() - commit.tree.keys():
            there[path].unlink()
            _remove_empty(there[path].parent, self.folder)
        for path, entry in commit.tree.items():
            if path not in there or self._hash(path, there[path])[0] != entry.sha256:
                self.blobs.copy_to(entry.sha256, self.folder / path)
        self.history.checkout = commit.id
        self.save()


def _replace(path: Path, text: str) -> None:
    staged = path.with_name(path.name + ".new")
    staged.write_text(text)
    staged.replace(path)


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
