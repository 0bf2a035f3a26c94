"""The Hub's HTTP: routes, answers and error codes, as `huggingface_hub` 2.4 and `datasets` 5.2 ask for them.

Owns the routing table and nothing on disk. The endpoints and error headers are those that the clients' sources call
and check (huggingface_hub `hf_api.py`, `file_download.py`, `utils/_http.py`); xet is off on the client's side.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.store import TOKEN, Entry, Kind, Repo, find


@dataclass(frozen=True)
class Answer:
    """What is sent back. `body` is bytes, or a file's path with the first and last byte to send."""

    status: int
    body: bytes | tuple[Path, int, int] = b""
    headers: dict[str, str] = field(default_factory=dict)


class RefusalError(Exception):
    """An answer that ends the request, with the code by which the client picks its exception."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(
            status,
            json.dumps({"error": message}).encode(),
            {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"},
        )


@dataclass(frozen=True)
class Request:
    """A request in words: what the route's pattern caught, the query, the headers and the body."""

    root: Path
    parts: dict[str, str]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def repo(self, *, files: bool = False) -> Repo:
        """The repo that the path names. `files`: its content is asked for, which a gated repo refuses."""
        kind: Kind = "datasets" if self.parts["kind"] else "models"
        name = unquote(self.parts["repo"])
        repo = find(self.root, kind, name)
        if repo is None:
            raise RefusalError(404, "RepoNotFound", "Repository not found")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            if repo.access == "private":
                raise RefusalError(401, "RepoNotFound", "Invalid username or password.")
            if repo.access == "gated" and files:
                raise RefusalError(
                    403, "GatedRepo", f"Access to {repo.kind} {name} is restricted and you are not allowed."
                )
        revision = unquote(self.parts.get("revision") or "main")
        if not repo.knows(revision):
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _info(request: Request) -> Answer:
    repo = request.repo()
    licence = repo.licence
    siblings: list[dict[str, Any]] = []
    for entry in repo.entries():
        sizes = {"size": entry.size, "blobId": entry.oid} if "blobs" in request.query else {}
        siblings.append({"rfilename": entry.path, **sizes})
    return _json(
        {
            "_id": repo.commit[:24],
            "id": repo.name,
            "sha": repo.commit,
            "private": repo.access == "private",
            "gated": "manual" if repo.access == "gated" else False,
            "disabled": False,
            "tags": [f"license:{licence}"] if licence else [],
            "cardData": {"license": licence} if licence else {},
            "downloads": 0,
            "likes": 0,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "lastModified": "2026-01-01T00:00:00.000Z",
            "siblings": siblings,
        }
    )


def _tree(request: Request) -> Answer:
    repo = request.repo()
    below = unquote(request.parts.get("path") or "").strip("/")
    listing = repo.tree(below, recursive=request.query.get("recursive", ["false"])[0].lower() == "true")
    if below and not listing:
        raise RefusalError(404, "EntryNotFound", f"{below} does not exist on this revision")
    return _json(listing)


def _paths_info(request: Request) -> Answer:
    repo = request.repo()
    if request.headers.get("content-type", "").startswith("application/json"):
        paths = json.loads(request.body)["paths"]
    else:
        paths = parse_qs(request.body.decode())["paths"]
    listing = repo.tree("", recursive=True)
    return _json([item for item in listing if item["path"] in paths])


def _refs(request: Request) -> Answer:
    commit = request.repo().commit
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": commit}
    return _json({"branches": [main], "tags": [], "converts": []})


def _commits(request: Request) -> Answer:
    commit = {"id": request.repo().commit, "title": "Upload", "message": "", "date": "2026-01-01T00:00:00.000Z"}
    return _json([{**commit, "authors": []}])


def _resolve(request: Request) -> Answer:
    repo = request.repo(files=True)
    path = unquote(request.parts["path"])
    entry = repo.entry(path)
    if entry is None:
        raise RefusalError(404, "EntryNotFound", f"Entry not found: {path}")
    first, last, status = _range(request.headers.get("range"), entry)
    headers = {
        "X-Repo-Commit": repo.commit,
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if entry.sha256 is not None:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if status == HTTPStatus.PARTIAL_CONTENT:
        headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
    return Answer(status, (repo.folder / path, first, last), headers)


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


_API = r"/api/(?:models|(?P<kind>datasets))/(?P<repo>[^/]+/[^/]+)"
ROUTES: tuple[tuple[str, re.Pattern[str], Callable[[Request], Answer]], ...] = (
    ("GET", re.compile(_API), _info),
    ("GET", re.compile(_API + r"/revision/(?P<revision>[^/]+)"), _info),
    ("GET", re.compile(_API + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?"), _tree),
    ("POST", re.compile(_API + r"/paths-info/(?P<revision>[^/]+)"), _paths_info),
    ("GET", re.compile(_API + r"/refs"), _refs),
    ("GET", re.compile(_API + r"/commits/(?P<revision>[^/]+)"), _commits),
    (
        "GET",
        re.compile(r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
        _resolve,
    ),
)


def answer(root: Path, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
    """The answer to one request: the routing table, then 404 for what no route knows."""
    split = urlsplit(url)
    for allowed, pattern, handler in ROUTES:
        match = pattern.fullmatch(split.path)
        if match is not None and (method == allowed or (method == "HEAD" and allowed == "GET")):
            request = Request(root, match.groupdict(), parse_qs(split.query, keep_blank_values=True), headers, body)
            try:
                return handler(request)
            except RefusalError as refusal:
                return refusal.answer
    return RefusalError(404, "NotFound", f"No such endpoint: {method} {split.path}").answer


class Server(ThreadingHTTPServer):
    """Serves `root` on loopback and keeps every request as (method, path, status) in `requests`."""

    daemon_threads = True

    def __init__(self, port: int, root: Path) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.root = root
        self.requests: list[tuple[str, str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        server = cast(Server, self.server)
        reply = answer(server.root, self.command, self.path, headers, body)
        server.requests.append((self.command, self.path, reply.status))
        length = len(reply.body) if isinstance(reply.body, bytes) else reply.body[2] - reply.body[1] + 1
        self.send_response(reply.status)
        for key, value in {**reply.headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(reply.body, bytes):
            self.wfile.write(reply.body)
        else:
            path, first, _ = reply.body
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(length))

    do_GET = do_HEAD = do_POST = _serve  # noqa: N815 (the names that http.server calls)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in `Server.requests`; the console stays quiet."""


@contextmanager
def running(root: Path, port: int = 0):
    """A server of `root` in a thread of this process; port 0 takes a free one."""
    server = Server(port, root)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
