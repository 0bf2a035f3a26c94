"""The Hub's repos: DIR/models/ns/name and DIR/datasets/ns/name, and in DIR/.hub what belongs to them and is not served.

Owns which repos exist and what they were called before. A repo is there as soon as its folder is, so that a test seeds
one by writing files; `repo` owns what is in it. Knows no HTTP.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path

from tests.hub_server import attributes
from tests.hub_server.repo import SETTINGS, Kind, Repo
from tests.hub_server.users import TOKEN

__all__ = ["SETTINGS", "TOKEN", "Kind", "NameTakenError", "Repo", "Store", "valid_name"]

_SEGMENT = re.compile(r"(?![.-])[\w.-]{1,96}(?<![.-])", re.ASCII)


def valid_name(name: str) -> bool:
    """Whether `ns/name` may be a repo's (huggingface_hub, utils/_validators.py)."""
    parts = name.split("/")
    odd = "--" in name or ".." in name or name.endswith((".git", ".ipynb"))
    return len(parts) == 2 and not odd and all(_SEGMENT.fullmatch(part) for part in parts)


class NameTakenError(Exception):
    """There is a repo of this name already."""


class Store:
    """All repos below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()
        self._repos: dict[tuple[Kind, str], Repo] = {}
        self._moves_file = root / ".hub" / "moves.json"
        saved = json.loads(self._moves_file.read_text()) if self._moves_file.is_file() else {}
        self._moves: dict[str, str] = saved

    def find(self, kind: Kind, name: str) -> Repo | None:
        """The repo called `ns/name`, or None; a name that leaves the folder is no repo's."""
        if not valid_name(name) or not (self.root / kind / name).is_dir():
            return None
        with self._lock:
            if (kind, name) not in self._repos:
                self._repos[kind, name] = Repo(kind, name, self.root / kind / name, self._state(kind, name))
            return self._repos[kind, name]

    def moved_to(self, kind: Kind, name: str) -> Repo | None:
        """The repo that was called `name` before it was renamed, or None."""
        target = self._moves.get(f"{kind}/{name}")
        return None if target is None else self.find(kind, target) or self.moved_to(kind, target)

    def create(self, kind: Kind, name: str, *, private: bool, author: str) -> Repo:
        """A new repo with the Hub's first commit. Raises NameTakenError."""
        with self._lock:
            if self.find(kind, name) is not None:
                raise NameTakenError(name)
            self._forget(kind, name)
            folder = self.root / kind / name
            folder.mkdir(parents=True)
            (folder / ".gitattributes").write_bytes(attributes.GITATTRIBUTES)
            repo = Repo(kind, name, folder, self._state(kind, name))
            if private:
                repo.change_settings(access="private")
            repo.record(title="initial commit", author=author)
            self._repos[kind, name] = repo
            return repo

    def delete(self, repo: Repo) -> None:
        with self._lock, repo.lock:
            shutil.rmtree(repo.folder)
            self._forget(repo.kind, repo.name)

    def move(self, repo: Repo, name: str) -> Repo:
        """Give a repo another name; the old one leads there from now on. Raises NameTakenError."""
        with self._lock, repo.lock:
            if self.find(repo.kind, name) is not None:
                raise NameTakenError(name)
            repo.record()
            self._forget(repo.kind, name)
            folder, state = self.root / repo.kind / name, self._state(repo.kind, name)
            for source, target in ((repo.folder, folder), (repo.state, state)):
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            self._forget(repo.kind, repo.name)
            self._moves[f"{repo.kind}/{repo.name}"] = name
            self._save_moves()
            self._repos[repo.kind, name] = Repo(repo.kind, name, folder, state)
            return self._repos[repo.kind, name]

    def _forget(self, kind: Kind, name: str) -> None:
        """Drop what is left of a repo that is gone, and the way to the one that had the name before."""
        self._repos.pop((kind, name), None)
        shutil.rmtree(self._state(kind, name), ignore_errors=True)
        if self._moves.pop(f"{kind}/{name}", None) is not None:
            self._save_moves()

    def _save_moves(self) -> None:
        self._moves_file.parent.mkdir(exist_ok=True)
        self._moves_file.write_text(json.dumps(self._moves))

    def _state(self, kind: Kind, name: str) -> Path:
        return self.root / ".hub" / kind / name
