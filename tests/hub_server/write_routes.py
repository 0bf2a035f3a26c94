"""What changes the Hub: repos created, renamed, deleted and set, commits, branches and tags; and the card's check.

Owns the requests' fields as huggingface_hub (`hf_api.py`) sends them, and the answers that it reads. Large files come
another way: see `lfs_routes`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from tests.hub_server import card_schema, push
from tests.hub_server.messages import Answer, RefusalError, Request, json_answer
from tests.hub_server.read_routes import REPO_API
from tests.hub_server.repo import Kind
from tests.hub_server.store import NameTakenError, valid_name

KINDS: dict[str, Kind] = {"model": "models", "dataset": "datasets"}


def _kind(fields: dict[str, Any]) -> Kind:
    kind = KINDS.get(fields.get("type") or "model")
    if kind is None:
        raise RefusalError(400, None, f"This server has models and datasets, no {fields['type']}")
    return kind


def _page(request: Request, kind: Kind, name: str) -> str:
    return f"{request.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"


def _full_name(request: Request, fields: dict[str, Any]) -> str:
    """`ns/name` of a request that names them apart; without an organisation it is the user's own."""
    namespace = fields.get("organization") or (request.token.user.name if request.token else "")
    return f"{namespace}/{fields.get('name')}"


def create(request: Request) -> Answer:
    fields = request.json()
    kind, name = _kind(fields), _full_name(request, fields)
    token = request.check_writes(name.split("/")[0], repo_exists=False)
    if not valid_name(name):
        raise RefusalError(400, None, f"Invalid repo name: {name}")
    url = _page(request, kind, name)
    private = fields.get("visibility") == "private" or bool(fields.get("private"))
    try:
        repo = request.store.create(kind, name, private=private, author=token.user.name)
    except NameTakenError as error:
        raise RefusalError(409, None, f"You already created this {kind[:-1]} repo: {name}", url=url) from error
    return json_answer({"url": url, "name": repo.name, "id": repo.name})


def delete(request: Request) -> Answer:
    fields = request.json()
    repo = request.visible(_kind(fields), _full_name(request, fields))
    request.check_writes(repo.namespace, repo_exists=True)
    request.store.delete(repo)
    return Answer(200, b"OK", {"Content-Type": "text/plain"})


def move(request: Request) -> Answer:
    fields = request.json()
    source, target = str(fields.get("fromRepo")), str(fields.get("toRepo"))
    repo = request.visible(_kind(fields), source)
    for namespace in (repo.namespace, target.split("/")[0]):
        request.check_writes(namespace, repo_exists=True)
    if not valid_name(target):
        raise RefusalError(400, None, f"Invalid repo name: {target}")
    try:
        request.store.move(repo, target)
    except NameTakenError as error:
        raise RefusalError(409, None, f"There is a repo of this name already: {target}") from error
    return Answer(200, b"OK", {"Content-Type": "text/plain"})


def settings(request: Request) -> Answer:
    repo = request.repo(write=True)
    fields = request.json()
    if "visibility" in fields:
        if fields["visibility"] not in ("public", "private"):
            raise RefusalError(400, None, f"Invalid visibility: {fields['visibility']}")
        repo.change_settings(access=fields["visibility"])
    if "gated" in fields:
        repo.change_settings(access="gated" if fields["gated"] else "public")
    return json_answer({"private": repo.access == "private"})


def commit(request: Request) -> Answer:
    repo = request.repo(write=True)
    author = request.check_writes(repo.namespace, repo_exists=True).user.name
    if "create_pr" in request.query:
        raise RefusalError(403, None, "Pull requests are disabled for this repo")
    branch = unquote(request.parts["revision"]).removeprefix("refs/heads/")
    try:
        done = repo.commit(branch, push.parse(request.body.read()), author)
    except push.PushError as error:
        raise RefusalError(error.status, error.code, str(error)) from error
    url = f"{_page(request, repo.kind, repo.name)}/commit/{done.id}"
    return json_answer({"success": True, "commitOid": done.id, "commitUrl": url, "hookOutput": ""})


def validate_yaml(request: Request) -> Answer:
    fields = request.json()
    errors, warnings = card_schema.check(str(fields.get("content", "")), _kind({"type": fields.get("repoType")}))
    found = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return json_answer(found, 400 if errors else 200)


def create_branch(request: Request) -> Answer:
    repo = request.repo(write=True)
    name = unquote(request.parts["branch"])
    start = str(request.json().get("startingPoint") or "main")
    with repo.lock:
        commit = repo.find(start)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {start}")
        if name in repo.history.branches:
            raise RefusalError(409, None, f"Reference already exists: {name}")
        if name.startswith("refs/"):
            raise RefusalError(400, None, f"Invalid reference for a branch: {name}")
        repo.history.branches[name] = commit.id
        repo.save()
    return json_answer({})


def create_tag(request: Request) -> Answer:
    repo = request.repo(write=True)
    name = str(request.json().get("tag"))
    with repo.lock:
        commit = request.commit(repo)
        if name in repo.history.tags:
            raise RefusalError(409, None, f"Tag reference exists already: {name}")
        repo.history.tags[name] = commit.id
        repo.save()
    return json_answer({})


ROUTES = (
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("POST", "/api/repos/move", move),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("PUT", REPO_API + r"/settings", settings),
    ("POST", REPO_API + r"/commit/(?P<revision>[^/]+)", commit),
    ("POST", REPO_API + r"/branch/(?P<branch>[^/]+)", create_branch),
    ("POST", REPO_API + r"/tag/(?P<revision>[^/]+)", create_tag),
)
