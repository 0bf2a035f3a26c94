"""Every fault of the Hub on loopback as the real client sees it, and what is left on the server afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import HfHubHTTPError

from tests.hub_server.fixture import Hub
from tests.hub_server.repo import Repo
from tests.hub_server.test_hub import ask
from tests.hub_server.users import TOKEN

pytestmark = [
    pytest.mark.usefixtures("in_process"),
    # huggingface_hub 2.4 itself, in every LFS upload (2026-11-30).
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"),
]
NAME = "loopback/adapter"
COMMIT = rf"POST /api/models/{NAME}/commit/main"
WEIGHTS = bytes(range(256)) * 20_000  # more than a connection's buffers hold


def push(hub: Hub, **files: bytes) -> str:
    operations = [CommitOperationAdd(name.replace("_", "."), content) for name, content in files.items()]
    return hub.api().create_commit(NAME, operations, commit_message="Upload").oid


def repo(hub: Hub) -> Repo:
    found = hub.server.store.find("models", NAME)
    assert found is not None
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def commits(hub: Hub) -> list[str]:
    return [commit.commit_id for commit in hub.api().list_repo_commits(NAME)]


@pytest.mark.parametrize("kind", ["401", "403", "412", "429", "500", "503", "507"])
def test_a_refusal_reaches_the_client_and_nothing_is_committed(hub: Hub, kind: Any) -> None:
    hub.api().create_repo(NAME)
    before = commits(hub)
    hub.server.faults.add(kind, COMMIT)
    with pytest.raises(HfHubHTTPError) as refused:
        push(hub, config_json=b"{}")
    assert str(refused.value.response.status_code) == kind
    assert hub.server.faults.applied == [(kind, COMMIT)]
    assert commits(hub) == before
    assert push(hub, config_json=b"{}") == commits(hub)[0]


def test_a_busy_server_is_asked_again_as_soon_as_it_says(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    hub.server.faults.add("429", "/preupload/", seconds=1)
    start = time.monotonic()
    push(hub, config_json=b"{}")
    assert time.monotonic() - start > 2  # the client adds a second to Retry-After
    asked = [status for _, path, status in hub.requests if "/preupload/" in path]
    assert asked == [429, 200]


def test_faults_come_in_their_turn_after_those_to_be_skipped(hub: Hub) -> None:
    faults = hub.server.faults
    faults.add("503", r"GET /api/whoami-v2$", times=2, skip=1)
    faults.add("500", r"GET /api/whoami-v2$")
    seen = []
    for _ in range(6):
        try:
            seen.append(hub.api().whoami()["name"])
        except HfHubHTTPError as error:
            seen.append(error.response.status_code)
    # The older one skips the first request, which so meets the younger one.
    assert seen == [500, 503, 503, "loopback", "loopback", "loopback"]
    assert [kind for kind, _ in faults.applied] == ["500", "503", "503"]
    faults.add("500", "whoami", times=9)
    faults.clear()
    assert hub.api().whoami()["name"] == "loopback"
    with pytest.raises(ValueError, match="a fault is one of 401, 403, "):
        faults.add("flood", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["drop", "drop_body"])
def test_a_connection_lost_on_the_way_in_commits_nothing(hub: Hub, kind: Any) -> None:
    hub.api().create_repo(NAME)
    before = commits(hub)
    hub.server.faults.add(kind, COMMIT)
    with pytest.raises((httpx2.NetworkError, httpx2.RemoteProtocolError)):
        push(hub, config_json=b"x" * 1_000_000)
    assert hub.server.faults.applied == [(kind, COMMIT)]
    assert commits(hub) == before
    assert hub.requests[-2][1:] == (f"/api/models/{NAME}/commit/main", 0)


@pytest.mark.e2e
def test_a_blob_that_breaks_off_is_no_blob_and_the_client_sends_it_again(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    before = repo(hub).blobs.names()
    hub.server.faults.add("drop_body", "PUT /lfs-storage/", times=9)
    operation = CommitOperationAdd("model.safetensors", WEIGHTS)
    code = f"""
import json, time, httpx2
from huggingface_hub import CommitOperationAdd, HfApi
time.sleep = lambda seconds: None  # between six tries
try:
    HfApi().create_commit("{NAME}", [CommitOperationAdd("model.safetensors", bytes(range(256)) * 20_000)],
        commit_message="Upload")
except RuntimeError as error:
    print(json.dumps([str(error), isinstance(error.__cause__, (httpx2.NetworkError, httpx2.RemoteProtocolError))]))
"""
    assert ask(hub, code, token=TOKEN) == ["Error while uploading 'model.safetensors' to the Hub.", True]
    assert len(hub.server.faults.applied) == 6
    assert repo(hub).blobs.names() == before
    assert repo(hub).blobs.incoming() == []
    hub.server.faults.clear()
    hub.server.faults.add("drop_body", "PUT /lfs-storage/")
    done = hub.api().create_commit(NAME, [operation], commit_message="Upload").oid
    assert len(hub.server.faults.applied) == 7
    assert done == commits(hub)[0]
    assert repo(hub).blobs.names() == before | {operation.upload_info.sha256.hex()}


def test_a_part_that_breaks_off_is_sent_again_and_a_lost_completion_asked_again(hub: Hub) -> None:
    hub.server.uploads.multipart_bytes, hub.server.uploads.chunk_bytes = 1_000_000, 2_000_000
    hub.api().create_repo(NAME)
    hub.server.faults.add("drop_body", r"PUT /lfs-storage/\w+/2$")
    hub.server.faults.add("drop_reply", r"POST /lfs-storage/")
    push(hub, model_safetensors=WEIGHTS)
    assert [kind for kind, _ in hub.server.faults.applied] == ["drop_body", "drop_reply"]
    assert repo(hub).blobs.path(commits_tree(hub)["model.safetensors"]).read_bytes() == WEIGHTS


def commits_tree(hub: Hub) -> dict[str, str]:
    """SHA-256 by path, at the head of main."""
    found = repo(hub).find("main")
    assert found is not None
    return {path: entry.sha256 for path, entry in found.tree.items()}


def test_a_client_that_dies_in_an_upload_leaves_nothing(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    before = repo(hub).blobs.names()
    upload = hub.server.uploads.open(repo(hub), "0" * 64, 1_000_000, multipart=False)
    with socket.create_connection(("127.0.0.1", int(hub.server.server_address[1]))) as connection:
        head = f"PUT /lfs-storage/{upload.key} HTTP/1.1\r\nHost: loopback\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 500_000)
        wait_for(repo(hub).blobs.incoming)
    wait_for(lambda: len(hub.requests) == 2)
    assert hub.requests[-1] == ("PUT", f"/lfs-storage/{upload.key}", 0)
    assert repo(hub).blobs.incoming() == []
    assert repo(hub).blobs.names() == before


def test_content_that_is_not_the_announced_one_is_refused(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    before = repo(hub).blobs.names()
    upload = hub.server.uploads.open(repo(hub), "0" * 64, 3, multipart=False)
    with httpx2.Client(trust_env=False, base_url=hub.url) as client:
        short = client.put(f"/lfs-storage/{upload.key}", content=b"ab")
        wrong = client.put(f"/lfs-storage/{upload.key}", content=b"abc")
        nowhere = client.put("/lfs-storage/00", content=b"abc")
    assert short.json()["error"] == "BadDigest: 3 bytes were announced, 2 came"
    assert wrong.json()["error"].startswith(f"BadDigest: content with SHA-256 {'0' * 64} was announced, ba7816bf")
    assert [reply.status_code for reply in (short, wrong, nowhere)] == [400, 400, 403]
    assert repo(hub).blobs.names() == before


def test_a_body_in_chunks_is_read_whole_or_broken_off(hub: Hub) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b'{"repoType": "model", ', b'"content": "# ', b"x" * 100, b' card"}')

    with httpx2.Client(trust_env=False, base_url=hub.url) as client:
        whole = client.post("/api/validate-yaml", content=chunks())
        assert whole.request.headers["Transfer-Encoding"] == "chunked"
        assert whole.json()["warnings"] == [{"message": "empty or missing yaml metadata in repo card"}]
        hub.server.faults.add("drop_body")
        with pytest.raises((httpx2.NetworkError, httpx2.RemoteProtocolError)):
            client.post("/api/validate-yaml", content=chunks())
    assert [status for _, _, status in hub.requests] == [200, 0]


def test_a_lost_answer_leaves_exactly_one_commit(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    before = commits(hub)
    hub.server.faults.add("drop_reply", COMMIT)
    with pytest.raises(httpx2.RemoteProtocolError):
        push(hub, config_json=b"{}")
    assert hub.server.faults.applied == [("drop_reply", COMMIT)]
    after = commits(hub)
    assert after[1:] == before
    assert push(hub, config_json=b"{}") == after[0]
    assert commits(hub) == after


def test_a_download_that_is_cut_is_taken_up_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client keeps whole pieces of this size, of 10 MB by default, and begins anew within the one that broke off.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)
    hub.api().create_repo(NAME)
    commit = push(hub, model_safetensors=WEIGHTS)
    hub.server.faults.add("cut_reply", "/resolve/")
    file = hub.api().hf_hub_download(NAME, "model.safetensors", revision=commit, cache_dir=tmp_path)
    assert Path(file).read_bytes() == WEIGHTS
    assert hub.server.faults.applied == [("cut_reply", f"GET /{NAME}/resolve/{commit}/model.safetensors")]
    assert [(method, status) for method, path, status in hub.requests if "/resolve/" in path] == [
        ("HEAD", 200), ("GET", 200), ("GET", 206),
    ]  # fmt: skip


def test_a_slow_answer_is_late_and_right_and_leaves_room_for_another_fault(hub: Hub) -> None:
    hub.server.faults.add("slow", "whoami", times=2, seconds=0.3)
    hub.server.faults.add("503", "whoami", skip=1)
    start = time.monotonic()
    assert hub.api().whoami()["name"] == "loopback"
    assert 0.3 <= time.monotonic() - start < 5
    with pytest.raises(HfHubHTTPError, match="503"):
        hub.api().whoami()
    assert [kind for kind, _ in hub.server.faults.applied] == ["slow", "slow", "503"]
