"""A repo's history: immutable commits, the trees that they hold, branches and tags.

Owns ids, revisions and their form in JSON. Holds no content (see `blobs`) and knows neither disk layout nor HTTP.
Commit ids are a hash over parent, tree and title, so the same pushes give the same ids in every run; git's own ids
hold author and date too, and are of no use to a client.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.hub_server import attributes


@dataclass(frozen=True)
class Entry:
    """One file: path below the repo, size in bytes, git blob id, SHA-256 of the content, and whether LFS keeps it."""

    path: str
    size: int
    oid: str
    sha256: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def lfs_fields(self) -> dict[str, Any]:
        pointer = attributes.pointer(self.sha256, self.size)
        return {"size": self.size, "pointerSize": len(pointer)}


Tree = Mapping[str, Entry]


def lfs_entry(path: str, sha256: str, size: int) -> Entry:
    """A file in LFS: to git it is the text of its pointer."""
    return Entry(path, size, git_hash(attributes.pointer(sha256, size)), sha256, lfs=True)


def git_hash(content: bytes) -> str:
    """The id that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """One state of the repo. `date` is ISO 8601 in UTC."""

    id: str
    parent: str | None
    tree: Tree
    title: str
    message: str
    author: str
    date: str


@dataclass
class History:
    """All commits by id, and what branches and tags point to. `checkout`: the commit that the folder shows."""

    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    checkout: str | None = None

    def head(self, branch: str = "main") -> Commit | None:
        return self.commits[self.branches[branch]] if branch in self.branches else None

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, an id or the unique beginning of an id (7 digits or more) names."""
        name = re.sub(r"^refs/(heads|tags)/", "", revision)
        if name in self.branches or name in self.tags:
            return self.commits[self.branches.get(name) or self.tags[name]]
        if re.fullmatch(r"[0-9a-fA-F]{7,40}", revision):
            found = [commit for id_, commit in self.commits.items() if id_.startswith(revision.lower())]
            return found[0] if len(found) == 1 else None
        return None

    def append(self, branch: str, tree: Tree, title: str, message: str, author: str) -> Commit:
        """A new commit on top of `branch`, which moves there; the branch may be new in an empty history."""
        parent = self.branches.get(branch)
        listing = "".join(f"{entry.oid} {path}\n" for path, entry in sorted(tree.items()))
        id_ = hashlib.sha1(f"{parent}\n{title}\n\n{listing}".encode()).hexdigest()
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        commit = Commit(id_, parent, dict(tree), title, message, author, date)
        self.commits[id_] = commit
        self.branches[branch] = id_
        return commit

    def log(self, commit: Commit) -> Iterator[Commit]:
        """`commit` and everything before it, newest first."""
        step: Commit | None = commit
        while step is not None:
            yield step
            step = self.commits[step.parent] if step.parent else None

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The newest commit, not after `commit`, that changed the file or folder at `path`."""
        newest = commit
        for older in self.log(commit):
            if _below(older.tree, path) != _below(commit.tree, path):
                return newest
            newest = older
        return newest

    def as_json(self) -> dict[str, Any]:
        commits = [
            {**{key: value for key, value in vars(commit).items() if key != "tree"},
             "tree": [asdict(entry) for entry in commit.tree.values()]}
            for commit in self.commits.values()
        ]  # fmt: skip
        return {"commits": commits, "branches": self.branches, "tags": self.tags, "checkout": self.checkout}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> History:
        commits = {}
        for fields in saved["commits"]:
            tree = {entry["path"]: Entry(**entry) for entry in fields["tree"]}
            commits[fields["id"]] = Commit(**{**fields, "tree": tree})
        return cls(commits, dict(saved["branches"]), dict(saved["tags"]), saved["checkout"])


def _below(tree: Tree, path: str) -> dict[str, str]:
    return {name: entry.oid for name, entry in tree.items() if name == path or name.startswith(f"{path}/")}
