"""What a push says, and the tree that it makes: the lines of a commit request applied to the parent's tree.

Owns the ndjson of `POST …/commit/{branch}` (header, file, lfsFile, deletedFile, deletedFolder), as `huggingface_hub`
writes it. Moves no branch and writes no checkout: `repo` does.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tests.hub_server import card_schema
from tests.hub_server.blobs import Blobs
from tests.hub_server.history import Entry, Tree, git_hash, lfs_entry


class PushError(Exception):
    """A push that is refused; `status` and `code` are those of the answer."""

    def __init__(self, message: str, status: int = 400, code: str = "BadRequest") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Push:
    """A commit request: title, description, the parent that it was made for (None: any) and its operations."""

    title: str
    message: str
    parent: str | None
    operations: tuple[tuple[str, Mapping[str, Any]], ...]


def parse(body: bytes) -> Push:
    """The request's lines. Raises PushError where they are none, or no header comes first."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        items = [(str(line["key"]), dict(line["value"])) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise PushError(f"The commit is no ndjson of keys and values: {error}") from error
    if not items or items[0][0] != "header" or not items[0][1].get("summary"):
        raise PushError("The first line of a commit must be a header with a summary")
    header = items[0][1]
    # As git takes a message: the first line is the title.
    title, _, rest = str(header["summary"]).partition("\n")
    message = "\n\n".join(text for text in (rest.strip(), header.get("description")) if text)
    return Push(title, message, header.get("parentCommit"), tuple(items[1:]))


def apply(push: Push, tree: Tree, blobs: Blobs, kind: str) -> dict[str, Entry]:
    """The tree after the push. Regular files' content is added to `blobs`; that of LFS files must be there."""
    after = dict(tree)
    for key, value in push.operations:
        path = _path(value, folder=key == "deletedFolder")
        match key:
            case "file":
                content = _content(value, path)
                if path == "README.md":
                    _check_card(content, kind)
                sha256, size = blobs.add([content])
                after[path] = Entry(path, size, git_hash(content), sha256, lfs=False)
            case "lfsFile":
                after[path] = _lfs(value, path, blobs)
            case "deletedFile" | "deletedFolder":
                _delete(after, path, folder=key == "deletedFolder")
            case _:
                raise PushError(f"Unknown operation in a commit: {key}")
    _check_folders(after)
    return after


def _path(value: Mapping[str, Any], *, folder: bool) -> str:
    path = value.get("path")
    if not isinstance(path, str):
        raise PushError("An operation of a commit must have a path")
    path = path.rstrip("/") if folder else path
    parts = path.split("/")
    if any(part in ("", ".", "..", ".git") for part in parts) or path == ".hub.json":
        raise PushError(f"Invalid path in a commit: {value['path']}")
    return path


def _content(value: Mapping[str, Any], path: str) -> bytes:
    try:
        return base64.b64decode(value["content"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise PushError(f"The content of {path} is not base64: {error}") from error


def _lfs(value: Mapping[str, Any], path: str, blobs: Blobs) -> Entry:
    # A copy within the repo names the content and leaves its size out.
    sha256, size = str(value.get("oid")), value.get("size")
    if value.get("algo") != "sha256" or not blobs.has(sha256, size):
        raise PushError(f"LFS pointer pointed to a file that does not exist: {path} ({sha256})")
    return lfs_entry(path, sha256, blobs.path(sha256).stat().st_size)


def _delete(tree: dict[str, Entry], path: str, *, folder: bool) -> None:
    gone = [name for name in tree if (name.startswith(f"{path}/") if folder else name == path)]
    if not gone:
        raise PushError(
            f"A {'folder' if folder else 'file'} with this name doesn't exist: {path}", 404, "EntryNotFound"
        )
    for name in gone:
        del tree[name]


def _check_folders(tree: Tree) -> None:
    folders = {str(parent) for path in tree for parent in PurePosixPath(path).parents}
    both = sorted(folders & tree.keys())
    if both:
        raise PushError(f"A file cannot be a folder too: {both[0]}")


def _check_card(content: bytes, kind: str) -> None:
    errors, _ = card_schema.check(content.decode(errors="replace"), kind)
    if errors:
        raise PushError("Your push was rejected due to invalid metadata in README.md: " + "; ".join(errors))
