"""What is read from the Hub: repos, trees, histories and files.

Owns the answers' fields, as huggingface_hub (`hf_api.py`, `file_download.py`) and datasets read them. Changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.hub_server.history import Commit, Entry
from tests.hub_server.messages import Answer, RefusalError, Request, json_answer
from tests.hub_server.repo import Repo

REPO_API = r"/api/(?:models|(?P<kind>datasets))/(?P<repo>[^/]+/[^/]+)"
REPO_PAGE = r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)"


def whoami(request: Request) -> Answer:
    if request.token is None:
        raise RefusalError(401, None, "Invalid username or password.")
    return json_answer(request.token.whoami())


def info(request: Request) -> Answer:
    repo = request.repo()
    commit = request.commit(repo)
    card = repo.card(commit)
    licences = card.get("license") or []
    tags = [str(tag) for tag in card.get("tags") or []]
    fields: dict[str, Any] = {
        "_id": hashlib.sha1(f"{repo.kind}/{repo.name}".encode()).hexdigest()[:24],
        "id": repo.name,
        "author": repo.namespace,
        "sha": commit.id,
        "private": repo.access == "private",
        "gated": "manual" if repo.access == "gated" else False,
        "disabled": False,
        "tags": tags + [f"license:{name}" for name in ([licences] if isinstance(licences, str) else licences)],
        "cardData": card,
        "downloads": 0,
        "likes": 0,
        "createdAt": list(repo.history.log(commit))[-1].date,
        "lastModified": commit.date,
        "siblings": [_sibling(entry, sizes="blobs" in request.query) for _, entry in sorted(commit.tree.items())],
    }
    if repo.kind == "models":
        fields |= {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
    return json_answer(fields)


def _sibling(entry: Entry, *, sizes: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"rfilename": entry.path}
    if sizes:
        fields |= {"size": entry.size, "blobId": entry.oid}
        if entry.lfs:
            fields["lfs"] = {"sha256": entry.sha256, **entry.lfs_fields}
    return fields


def tree(request: Request) -> Answer:
    repo = request.repo()
    commit = request.commit(repo)
    below = unquote(request.parts.get("path") or "").strip("/")
    listing = _listing(commit, below, recursive=_flag(request, "recursive"))
    if below and not listing:
        raise RefusalError(404, "EntryNotFound", f"{below} does not exist on this revision")
    return json_answer(_expanded(repo, commit, listing) if _flag(request, "expand") else listing)


def paths_info(request: Request) -> Answer:
    repo = request.repo()
    commit = request.commit(repo)
    if request.headers.get("content-type", "").startswith("application/json"):
        asked = request.json()
        paths, expand = asked["paths"], bool(asked.get("expand"))
    else:
        form = parse_qs(request.body.read().decode())
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
    listing = [item for item in _listing(commit, "", recursive=True) if item["path"] in paths]
    return json_answer(_expanded(repo, commit, listing) if expand else listing)


def _flag(request: Request, name: str) -> bool:
    return request.query.get(name, ["false"])[0].lower() in ("true", "1")


def _listing(commit: Commit, below: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Folders and files under `below` ('' is the root) as the API lists them; [] where there is no such folder."""
    prefix = f"{below}/" if below else ""
    inside = [entry for path, entry in sorted(commit.tree.items()) if path.startswith(prefix)]
    folders: dict[str, str] = {}
    for entry in inside:
        parts = entry.path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parts) + 1 if recursive else min(len(parts), 1) + 1):
            path = prefix + "/".join(parts[:depth])
            folders[path] = folders.get(path, "") + f"{entry.oid} {entry.path}\n"
    listed: list[dict[str, Any]] = [
        {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(content.encode()).hexdigest()}
        for path, content in folders.items()
    ]
    return listed + [_file(entry) for entry in inside if recursive or "/" not in entry.path[len(prefix) :]]


def _file(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "file", "path": entry.path, "size": entry.size, "oid": entry.oid}
    return fields | ({"lfs": {"oid": entry.sha256, **entry.lfs_fields}} if entry.lfs else {})


def _expanded(repo: Repo, commit: Commit, listing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for item in listing:
        last = repo.history.last_change(commit, item["path"])
        item["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
    return listing


def refs(request: Request) -> Answer:
    repo = request.repo()
    request.commit(repo)
    history = repo.history

    def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": id_} for name, id_ in names.items()]

    with repo.lock:
        found = {"branches": listed("heads", history.branches), "tags": listed("tags", history.tags), "converts": []}
    return json_answer(found | ({"pullRequests": []} if "include_prs" in request.query else {}))


def commits(request: Request) -> Answer:
    repo = request.repo()
    return json_answer(
        [
            {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date,
             "authors": [{"user": commit.author}]}
            for commit in repo.history.log(request.commit(repo))
        ]
    )  # fmt: skip


def auth_check(request: Request) -> Answer:
    request.repo(content=True)
    return json_answer({})


def resolve(request: Request) -> Answer:
    repo = request.repo(content=True)
    commit = request.commit(repo)
    path = unquote(request.parts["path"])
    entry = commit.tree.get(path)
    if entry is None:
        refusal = RefusalError(404, "EntryNotFound", f"Entry not found: {path}")
        refusal.answer.headers["X-Repo-Commit"] = commit.id  # the client remembers what the branch means
        raise refusal
    first, last, status = _range(request.headers.get("range"), entry)
    headers = {
        "X-Repo-Commit": commit.id,
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if status == HTTPStatus.PARTIAL_CONTENT:
        headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
    return Answer(status, (repo.blobs.path(entry.sha256), first, last), headers)


def _range(header: str | None, entry: Entry) -> tuple[int, int, int]:
    """First byte, last byte and status for a Range header (RFC 9110 §14.2), single ranges only."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match[0] == "bytes=-":
        return 0, entry.size - 1, HTTPStatus.OK
    first = int(match[1]) if match[1] else max(0, entry.size - int(match[2]))
    last = min(int(match[2]), entry.size - 1) if match[1] and match[2] else entry.size - 1
    if first >= entry.size or first > last:
        raise RefusalError(416, "RangeNotSatisfiable", f"{entry.path} has {entry.size} bytes")
    return first, last, HTTPStatus.PARTIAL_CONTENT


ROUTES = (
    ("GET", "/api/whoami-v2", whoami),
    ("GET", REPO_API, info),
    ("GET", REPO_API + r"/revision/(?P<revision>[^/]+)", info),
    ("GET", REPO_API + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", tree),
    ("POST", REPO_API + r"/paths-info/(?P<revision>[^/]+)", paths_info),
    ("GET", REPO_API + r"/refs", refs),
    ("GET", REPO_API + r"/commits/(?P<revision>[^/]+)", commits),
    ("GET", REPO_API + r"/auth-check", auth_check),
    ("GET", REPO_PAGE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
)
