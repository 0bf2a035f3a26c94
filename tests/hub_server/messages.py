"""A request in words and its answer: who asks, for which repo, and with what status and code it is refused.

Owns the rules of access as a client meets them, and the error headers by which it picks its exception
(huggingface_hub, utils/_http.py). Owns no route.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.hub_server.body import Body
from tests.hub_server.history import Commit
from tests.hub_server.store import Kind, Repo, Store
from tests.hub_server.uploads import Uploads
from tests.hub_server.users import TOKENS, Token

BAD_TOKEN = "Invalid credentials in Authorization header"  # the text by which the client tells it from a missing repo
NO_LOGIN = "Invalid username or password."


@dataclass(frozen=True)
class Answer:
    """What is sent back. `body` is bytes, or a file's path with the first and last byte to send."""

    status: int
    body: bytes | tuple[Path, int, int] = b""
    headers: dict[str, str] = field(default_factory=dict)


class RefusalError(Exception):
    """An answer that ends the request; `code` is the one by which the client picks its exception, if it has one."""

    def __init__(self, status: int, code: str | None, message: str, **fields: Any) -> None:
        super().__init__(message)
        one_line = " ".join(message.split()).encode("ascii", "replace").decode()
        headers = {"X-Error-Message": one_line, "Content-Type": "application/json"}
        if code is not None:
            headers["X-Error-Code"] = code
        self.answer = Answer(status, json.dumps({"error": message, **fields}).encode(), headers)


class MovedError(Exception):
    """The repo has another name now."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.answer = Answer(307, b"", {"Location": location})


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


@dataclass(frozen=True)
class Request:
    """What the route's pattern caught, the query, the headers (lower case) and the body; `endpoint`: this server."""

    store: Store
    uploads: Uploads
    endpoint: str
    url: str
    parts: dict[str, str]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Body

    @cached_property
    def token(self) -> Token | None:
        """Whose token came with the request, if any. A token that is in no table is refused, whatever is asked."""
        header = self.headers.get("authorization")
        if header is None:
            return None
        token = TOKENS.get(header.removeprefix("Bearer "))
        if token is None:
            raise RefusalError(401, None, BAD_TOKEN)
        return token

    def json(self) -> dict[str, Any]:
        """The body, a JSON object."""
        try:
            value = self.body.json()
        except ValueError as error:
            raise RefusalError(400, None, f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise RefusalError(400, None, "The body is not a JSON object")
        return value

    def repo(self, *, content: bool = False, write: bool = False) -> Repo:
        """The repo that the path names. `content`: a gated repo refuses it; `write`: so does whoever has no right."""
        kind: Kind = "datasets" if self.parts["kind"] else "models"
        name = unquote(self.parts["repo"])
        repo = self.visible(kind, name)
        if content and repo.access == "gated" and not self._let_in(repo):
            status = 401 if self.token is None else 403
            raise RefusalError(status, "GatedRepo", f"Access to {kind} {name} is restricted and you are not allowed.")
        if write:
            self.check_writes(repo.namespace, repo_exists=True)
        return repo

    def visible(self, kind: Kind, name: str) -> Repo:
        """The repo called `name`, if this request may know of it. Raises RefusalError, or MovedError."""
        found = self.store.find(kind, name)
        repo = found or self.store.moved_to(kind, name)
        if repo is not None and repo.access == "private" and not (self.token and self.token.reads(repo.namespace)):
            repo = None
        if repo is None:
            known = found is None or self.token is not None
            raise RefusalError(404 if known else 401, "RepoNotFound", "Repository not found" if known else NO_LOGIN)
        if found is None:
            raise MovedError(self.url.replace(f"/{name}", f"/{repo.name}", 1))
        return repo

    def commit(self, repo: Repo) -> Commit:
        """The commit that the path names, main's if it names none."""
        revision = unquote(self.parts.get("revision") or "main")
        commit = repo.find(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def check_writes(self, namespace: str, *, repo_exists: bool) -> Token:
        """The token, if it may write in `namespace`."""
        if self.token is None:
            # Of a repo the real Hub's client makes a RepositoryNotFoundError by the URL, for https alone.
            raise RefusalError(401, "RepoNotFound" if repo_exists else None, NO_LOGIN)
        if self.token.role == "read":
            raise RefusalError(403, None, "You must use a write token to change a repository")
        if not self.token.writes(namespace):
            raise RefusalError(403, None, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return self.token

    def _let_in(self, repo: Repo) -> bool:
        token = self.token
        return token is not None and (token.reads(repo.namespace) or token.user.name in repo.granted)
