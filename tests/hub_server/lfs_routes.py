"""How large files get to the Hub: which are large, where to send them, and whether they arrived.

Owns preupload, the LFS batch (git-lfs, docs/api/batch.md) with the transfers `basic` and the Hub's `multipart`, the
PUT of blobs and parts, completion and verify, as huggingface_hub (`_commit_api.py`, `lfs.py`) calls them.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.hub_server import attributes
from tests.hub_server.blobs import BlobError
from tests.hub_server.messages import Answer, RefusalError, Request, json_answer
from tests.hub_server.read_routes import REPO_API, REPO_PAGE
from tests.hub_server.repo import Repo
from tests.hub_server.uploads import Upload


def preupload(request: Request) -> Answer:
    repo = request.repo(write=True)
    commit = request.commit(repo)
    files: list[dict[str, Any]] = []
    for file in request.json().get("files", []):
        there = commit.tree.get(file["path"])
        sample = base64.b64decode(file.get("sample") or "")
        mode = "lfs" if attributes.in_lfs(file["path"], file["size"], sample) else "regular"
        oid = there.etag if there is not None else None
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return json_answer({"files": files, "commitOid": commit.id})


def batch(request: Request) -> Answer:
    repo = request.repo(write=True)
    asked = request.json()
    if asked.get("operation") != "upload":
        raise RefusalError(400, None, "Only the operation upload is served")
    multipart = "multipart" in asked.get("transfers", ["basic"])
    objects = [_object(request, repo, item, multipart=multipart) for item in asked.get("objects", [])]
    parted = any("chunk_size" in item.get("actions", {}).get("upload", {}).get("header", {}) for item in objects)
    return json_answer({"transfer": "multipart" if parted else "basic", "objects": objects, "hash_algo": "sha256"})


def _object(request: Request, repo: Repo, item: dict[str, Any], *, multipart: bool) -> dict[str, Any]:
    sha256, size = str(item.get("oid")), item.get("size")
    answer: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not isinstance(size, int) or size <= 0:
        return answer | {"error": {"code": 422, "message": f"Invalid object: {sha256} of {size} bytes"}}
    if repo.blobs.has(sha256, size):
        return answer
    upload = request.uploads.open(repo, sha256, size, multipart=multipart)
    href = f"{request.endpoint}/lfs-storage/{upload.key}"
    action: dict[str, Any] = {"href": href}
    if upload.chunk_bytes is not None:
        parts = {f"{number:05}": f"{href}/{number}" for number in range(1, upload.count + 1)}
        action["header"] = {"chunk_size": str(upload.chunk_bytes), **parts}
    below = "datasets/" if repo.kind == "datasets" else ""
    verify = {"href": f"{request.endpoint}/{below}{repo.name}.git/info/lfs/objects/verify"}
    return answer | {"actions": {"upload": action, "verify": verify}}


def _upload(request: Request) -> Upload:
    upload = request.uploads.find(request.parts["key"])
    if upload is None:
        raise RefusalError(403, None, "The address of this upload is not valid, or not any more")
    return upload


def put(request: Request) -> Answer:
    """A blob, or a part of one. The address is the permission: the client sends no token."""
    upload = _upload(request)
    number = request.parts.get("number")
    try:
        blocks = request.body.blocks()
        etag = upload.put(blocks) if number is None else upload.put_part(int(number), blocks)
    except BlobError as error:
        raise RefusalError(400, None, f"BadDigest: {error}") from error
    return Answer(200, b"", {"ETag": f'"{etag}"'})


def complete(request: Request) -> Answer:
    upload = _upload(request)
    listed = [(part["partNumber"], part["etag"].strip('"')) for part in request.json().get("parts", [])]
    try:
        upload.complete(listed)
    except BlobError as error:
        raise RefusalError(400, None, f"The upload cannot be completed: {error}") from error
    return json_answer({"success": True})


def verify(request: Request) -> Answer:
    repo = request.repo(write=True)
    asked = request.json()
    if not repo.blobs.has(str(asked.get("oid")), asked.get("size")):
        raise RefusalError(404, None, f"There is no object {asked.get('oid')} of {asked.get('size')} bytes")
    return json_answer({})


ROUTES = (
    ("POST", REPO_API + r"/preupload/(?P<revision>[^/]+)", preupload),
    ("POST", REPO_PAGE + r"\.git/info/lfs/objects/batch", batch),
    ("POST", REPO_PAGE + r"\.git/info/lfs/objects/verify", verify),
    ("PUT", r"/lfs-storage/(?P<key>[0-9a-f]+)(?:/(?P<number>\d+))?", put),
    ("POST", r"/lfs-storage/(?P<key>[0-9a-f]+)", complete),
)
