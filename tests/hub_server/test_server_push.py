"""Pushing to the Hub on loopback with the real client: commits, revisions, LFS, branches."""

from __future__ import annotations

import json
import os
import threading
import time
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RemoteEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from tests.hub_server.fixture import Hub
from tests.hub_server.server import running
from tests.hub_server.test_hub import ask, get
from tests.hub_server.users import TOKEN

pytestmark = [
    pytest.mark.usefixtures("in_process"),
    # huggingface_hub 2.4 itself, in every LFS upload (2026-11-30).
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"),
]
WEIGHTS = bytes(range(256)) * 40
NAME = "loopback/adapter"


def add(path: str, content: bytes | str) -> CommitOperationAdd:
    return CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)


def push(hub: Hub, *operations: Any, name: str = NAME, **arguments: Any) -> str:
    """Commit to `name`; the commit's id."""
    done = hub.api().create_commit(name, operations, commit_message=arguments.pop("title", "Upload"), **arguments)
    return done.oid


def read(hub: Hub, path: str, revision: str, name: str = NAME) -> bytes:
    status, _, content = get(f"{hub.url}/{name}/resolve/{revision}/{path}")
    assert status == 200
    return content


def test_a_new_repo_has_the_hubs_first_commit(hub: Hub) -> None:
    url = hub.api().create_repo(NAME)
    assert (str(url), url.repo_id, url.repo_type) == (f"{hub.url}/{NAME}", NAME, "model")
    (first,) = hub.api().list_repo_commits(NAME)
    assert (first.title, first.authors) == ("initial commit", ["loopback"])
    assert hub.api().list_repo_files(NAME) == [".gitattributes"]
    assert hub.api().create_repo(NAME, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="You already created this model repo"):
        hub.api().create_repo(NAME)
    data = hub.api().create_repo("table", repo_type="dataset")  # no namespace: the user's own
    assert (str(data), data.repo_id) == (f"{hub.url}/datasets/loopback/table", "loopback/table")


def test_small_and_large_files_are_pushed_and_read_by_commit(hub: Hub, tmp_path: Path) -> None:
    api = hub.api()
    before = api.create_repo(NAME) and api.repo_info(NAME).sha
    card = "---\nlicense: mit\nlibrary_name: peft\n---\n# An adapter\n"
    commit = push(hub, add("config.json", "{}"), add("model.safetensors", WEIGHTS), add("README.md", card))
    info = api.model_info(NAME, files_metadata=True)
    assert info.sha == commit != before
    assert info.card_data is not None and info.card_data["library_name"] == "peft"
    files = {file.rfilename: file for file in info.siblings or []}
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    small, large = files["config.json"], files["model.safetensors"]
    assert (small.size, small.blob_id, small.lfs) == (2, sha1(b"blob 2\0{}").hexdigest(), None)
    assert large.lfs is not None
    assert (large.size, large.lfs.sha256) == (len(WEIGHTS), sha256(WEIGHTS).hexdigest())
    tree = {item.path: item for item in api.list_repo_tree(NAME, expand=True) if isinstance(item, RepoFile)}
    assert tree["model.safetensors"].lfs == large.lfs
    changed = {path: item.last_commit.oid for path, item in tree.items() if item.last_commit}
    assert changed == dict.fromkeys(set(files) - {".gitattributes"}, commit) | {".gitattributes": before}
    folder = Path(api.snapshot_download(NAME, revision=commit, cache_dir=tmp_path))
    assert folder.name == commit
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "README.md").read_text() == card
    checkout = hub.folder / "models" / NAME
    assert {path.name for path in checkout.iterdir()} == set(files)
    assert (checkout / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_above_the_threshold_is_sent_in_parts(hub: Hub, tmp_path: Path) -> None:
    hub.server.uploads.multipart_bytes, hub.server.uploads.chunk_bytes = 4000, 3000
    hub.api().create_repo(NAME)
    file = tmp_path / "model.safetensors"
    file.write_bytes(WEIGHTS)
    commit = push(hub, CommitOperationAdd("model.safetensors", file))
    parts = [path.rsplit("/", 1)[1] for method, path, _ in hub.requests if method == "PUT"]
    assert parts == ["1", "2", "3", "4"]
    assert read(hub, "model.safetensors", commit) == WEIGHTS
    assert list((hub.folder / ".hub" / "models" / NAME).glob("parts-*")) == []


def test_content_that_is_there_is_not_sent_again(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    push(hub, add("model.safetensors", WEIGHTS))
    again = push(hub, add("copy.safetensors", WEIGHTS))
    assert read(hub, "copy.safetensors", again) == WEIGHTS
    assert [method for method, _, _ in hub.requests].count("PUT") == 1


def test_an_old_commit_a_branch_and_a_tag_stay_as_they_were(hub: Hub) -> None:
    api = hub.api()
    api.create_repo(NAME)
    first = push(hub, add("a/b.txt", "one"), add("model.bin", b"1" * 100), title="First\n\nwith a body")
    api.create_tag(NAME, tag="v1")
    api.create_branch(NAME, branch="side/line", revision=first)
    second = push(hub, add("a/b.txt", "two"), CommitOperationDelete("model.bin"), title="Second")
    revisions = {first: b"one", second: b"two", "main": b"two", "v1": b"one", "side%2Fline": b"one", first[:10]: b"one"}
    assert {revision: read(hub, "a/b.txt", revision) for revision in revisions} == revisions
    assert read(hub, "model.bin", first) == b"1" * 100
    assert get(f"{hub.url}/{NAME}/resolve/{second}/model.bin")[1]["X-Error-Code"] == "EntryNotFound"
    assert [file.rfilename for file in api.model_info(NAME, revision=first).siblings or []] == [
        ".gitattributes", "a/b.txt", "model.bin",
    ]  # fmt: skip
    assert [item.path for item in api.list_repo_tree(NAME, revision=second, recursive=True)] == [
        "a", ".gitattributes", "a/b.txt",
    ]  # fmt: skip
    (found,) = api.get_paths_info(NAME, ["a/b.txt", "none"], revision="v1")
    assert isinstance(found, RepoFile)
    assert (found.path, found.size) == ("a/b.txt", 3)
    history = api.list_repo_commits(NAME)
    assert [(commit.commit_id, commit.title) for commit in history[:2]] == [(second, "Second"), (first, "First")]
    assert history[1].message == "with a body"
    refs = api.list_repo_refs(NAME)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "side/line": first}
    assert {ref.ref: ref.target_commit for ref in refs.tags} == {"refs/tags/v1": first}
    aside = push(hub, add("a/b.txt", "aside"), revision="side/line", parent_commit=first)
    assert (read(hub, "a/b.txt", aside), read(hub, "a/b.txt", "main")) == (b"aside", b"two")
    assert (hub.folder / "models" / NAME / "a" / "b.txt").read_text() == "two"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(NAME, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        push(hub, add("x", "x"), revision="none")


def test_a_file_changed_in_the_checkout_is_a_commit_between_two_pushes(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    first = push(hub, add("a.txt", "one"))
    checkout = hub.folder / "models" / NAME
    (checkout / "a.txt").write_text("two")
    with pytest.raises(HfHubHTTPError, match="412"):
        push(hub, add("b.txt", "b"), parent_commit=first)
    second = hub.api().repo_info(NAME).sha
    assert second not in (None, first)
    third = push(hub, add("b.txt", "b"), CommitOperationDelete("a.txt"), parent_commit=second)
    assert [commit.commit_id for commit in hub.api().list_repo_commits(NAME)][:3] == [third, second, first]
    assert {path.name for path in checkout.iterdir()} == {".gitattributes", "b.txt"}


def test_a_change_of_the_same_length_within_one_tick_of_the_clock_is_noticed(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    file, tick = hub.folder / "models" / NAME / "a.txt", time.time_ns() + 10_000_000_000
    found = []
    for text in ("one", "two"):
        file.write_text(text)
        os.utime(file, ns=(tick, tick))
        found.append(read(hub, "a.txt", "main"))
    assert found == [b"one", b"two"]


def test_a_stale_parent_is_refused_and_changes_nothing(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    first = push(hub, add("a.txt", "one"))
    second = push(hub, add("a.txt", "two"), parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as refused:
        push(hub, add("a.txt", "three"), parent_commit=first)
    assert refused.value.response.status_code == 412
    assert hub.api().repo_info(NAME).sha == second
    assert push(hub, add("a.txt", "three"), parent_commit=second) != second


def test_a_commit_that_changes_nothing_makes_no_commit(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    operations = [("config.json", b"{}"), ("model.safetensors", WEIGHTS)]
    first = push(hub, *(add(*operation) for operation in operations))
    assert push(hub, *(add(*operation) for operation in operations)) == first
    # The client leaves out what has not changed, so that a commit of nothing but that is never sent.
    assert [path for method, path, _ in hub.requests if "/commit/" in path and method == "POST"] == [
        f"/api/models/{NAME}/commit/main"
    ]
    status, body = commit_request(hub, {"key": "file", "value": {"path": "config.json", "content": "e30="}})
    assert (status, body["commitOid"]) == (200, first)


def commit_request(hub: Hub, *lines: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A commit as the client would not send it: status and answer."""
    import httpx2

    header = {"key": "header", "value": {"summary": "By hand", "description": ""}}
    body = "\n".join(json.dumps(line) for line in (header, *lines))
    with httpx2.Client(trust_env=False) as client:
        url = f"{hub.url}/api/models/{NAME}/commit/main"
        reply = client.post(url, content=body, headers={"Authorization": f"Bearer {TOKEN}"})
        return reply.status_code, reply.json()


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ({"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}}, 400,
         "LFS pointer pointed to a file that does not exist: a.bin"),
        ({"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": "../history.json"}}, 400,
         "LFS pointer pointed to a file that does not exist"),
        ({"key": "file", "value": {"path": "../a.txt", "content": "e30="}}, 400, "Invalid path in a commit: ../a.txt"),
        ({"key": "file", "value": {"path": "a.txt", "content": "{}"}}, 400, "The content of a.txt is not base64"),
        ({"key": "file", "value": {"path": "there.txt/a", "content": "e30="}}, 400, "A file cannot be a folder too"),
        ({"key": "file", "value": {"path": "README.md", "content": "LS0tCmxpY2Vuc2U6IG5vCi0tLQo="}}, 400,
         'invalid metadata in README.md: "license" must be one of'),
        ({"key": "deletedFile", "value": {"path": "none"}}, 404, "A file with this name doesn't exist: none"),
        ({"key": "renamed", "value": {"path": "a"}}, 400, "Unknown operation in a commit: renamed"),
    ],
)  # fmt: skip
def test_a_commit_that_cannot_be_is_refused_whole(hub: Hub, line: dict[str, Any], status: int, message: str) -> None:
    hub.api().create_repo(NAME)
    first = push(hub, add("there.txt", "x"))
    found, answer = commit_request(hub, {"key": "file", "value": {"path": "new.txt", "content": "e30="}}, line)
    assert found == status
    assert message in answer["error"]
    assert hub.api().repo_info(NAME).sha == first
    assert not (hub.folder / "models" / NAME / "new.txt").exists()


def test_the_client_raises_what_it_raises_for_the_real_hub(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
        push(hub, CommitOperationDelete("none"))
    with pytest.raises(ValueError, match=r'Invalid metadata in README.md.\n- "license" must be one of'):
        push(hub, add("README.md", "---\nlicense: mine\n---\n"))
    with pytest.raises(BadRequestError, match="A file cannot be a folder too"):
        push(hub, add("a", "x"), add("a/b", "x"))


def test_of_two_pushes_for_one_parent_exactly_one_wins(hub: Hub) -> None:
    api = hub.api()
    api.create_repo(NAME)
    parent = api.repo_info(NAME).sha
    for turn in range(5):
        start, results = threading.Barrier(2), {}

        def race(number: int, parent: str | None = parent, start: Any = start, results: Any = results) -> None:
            operations = [add(f"{number}.txt", f"{parent}"), add("both.txt", f"{number} {parent}")]
            start.wait()
            try:
                results[number] = push(hub, *operations, parent_commit=parent, title=f"By {number}")
            except HfHubHTTPError as error:
                results[number] = error.response.status_code

        threads = [threading.Thread(target=race, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = next(number for number in range(2) if results[number] != 412)
        assert results[1 - winner] == 412, turn
        parent = results[winner]
        assert read(hub, "both.txt", "main").startswith(f"{winner} ".encode())
    assert len(api.list_repo_commits(NAME)) == 6


def test_everything_is_there_after_a_restart(hub: Hub) -> None:
    hub.api().create_repo(NAME)
    first = push(hub, add("a.txt", "one"), add("model.bin", WEIGHTS))
    second = push(hub, add("a.txt", "two"))
    # As a server that was killed between the history and the checkout of a push leaves them.
    saved = hub.folder / ".hub" / "models" / NAME / "history.json"
    saved.write_text(json.dumps(json.loads(saved.read_text()) | {"checkout": first}))
    (hub.folder / "models" / NAME / "a.txt").write_text("one")
    with running(hub.folder) as server:
        again = Hub(server, hub.folder, hub.home)
        assert [read(again, "a.txt", revision) for revision in (first, "main")] == [b"one", b"two"]
        assert read(again, "model.bin", second) == WEIGHTS
        assert again.api().repo_info(NAME).sha == second
    assert (hub.folder / "models" / NAME / "a.txt").read_text() == "two"


MODEL = """
import json, torch
from huggingface_hub import HfApi
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification
torch.manual_seed(0)
model = ViTForImageClassification(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=64, image_size=32, patch_size=8)).eval()
model.push_to_hub("org/tiny", private=True)
first = HfApi().repo_info("org/tiny").sha
kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
with torch.no_grad():
    model.classifier.bias += 1
model.push_to_hub("org/tiny")
old = AutoModelForImageClassification.from_pretrained("org/tiny", revision=first).state_dict()
new = AutoModelForImageClassification.from_pretrained("org/tiny").state_dict()
print(json.dumps([
    all(torch.equal(old[name], kept[name]) for name in kept),
    all(torch.equal(new[name], tensor) for name, tensor in model.state_dict().items()),
    torch.equal(old["classifier.bias"], new["classifier.bias"]),
    HfApi().repo_info("org/tiny").private,
]))
"""


@pytest.mark.e2e
def test_transformers_pushes_a_model_twice_and_loads_both(hub: Hub) -> None:
    assert ask(hub, MODEL, token=TOKEN) == [True, True, False, True]
