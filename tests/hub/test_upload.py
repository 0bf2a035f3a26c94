"""One folder to one repo: whole, once, and compared; with every fault at every call of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from hf_finetune.errors import HubError
from hf_finetune.hub.upload import Uploaded, upload
from hf_finetune.network.patience import Patience
from tests.hub.contents import content, write_result
from tests.hub_server.fixture import Hub
from tests.hub_server.users import OTHER_TOKEN, READ_TOKEN, TOKEN, UNKNOWN_TOKEN

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("in_process", "no_waits"),
    # 2026-11-24: huggingface_hub 2.4 uploads blobs in a way that its httpx2 calls deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"),
]
REPO = "loopback/beans"
QUICK = Patience(tries=4, first_s=0.001, most_s=0.002)


def push(hub: Hub, folder: Path, *, repo: str = REPO, token: str = TOKEN, **options: Any) -> Uploaded:
    given: dict[str, Any] = {"private": True, "title": "Upload", "patience": QUICK, **options}
    return upload(hub.api(token), folder, repo, **given)


def at_head(hub: Hub, tmp_path: Path, repo: str = REPO) -> dict[str, bytes]:
    """What anybody who may read the repo gets now, Hub's own files aside."""
    info = hub.api().repo_info(repo)
    place = hub.api().snapshot_download(repo, revision=info.sha, cache_dir=tmp_path / f"head-{info.sha}")
    return {path: data for path, data in content(Path(place)).items() if path != ".gitattributes"}


def pushes(hub: Hub, repo: str = REPO) -> int:
    """Commits made by a push."""
    return sum("content sha256" in commit.message for commit in hub.api().list_repo_commits(repo))


def test_a_new_repo_is_private_and_holds_exactly_what_is_published(hub: Hub, tmp_path: Path) -> None:
    folder = write_result(tmp_path / "result", base=True)
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / ".env").write_text("HF_TOKEN=hf_x")
    done = push(hub, folder)
    assert (done.repo, done.changed, done.kept_card) == (REPO, True, False)
    assert hub.api().repo_info(REPO).private
    published = {path: data for path, data in content(folder).items() if path not in ("training_args.bin", ".env")}
    assert at_head(hub, tmp_path) == published
    assert pushes(hub) == 1


def test_a_finished_push_changes_nothing(hub: Hub, tmp_path: Path) -> None:
    folder = write_result(tmp_path / "result")
    first = push(hub, folder)
    before = len(hub.requests)
    again = push(hub, folder)
    assert (again.commit, again.changed) == (first.commit, False)
    assert not any(method in ("POST", "PUT") for method, _, _ in hub.requests[before:])
    assert pushes(hub) == 1


def test_another_result_replaces_the_first_and_leaves_a_persons_own_files(hub: Hub, tmp_path: Path) -> None:
    first = push(hub, write_result(tmp_path / "first", 1, base=True))
    note = [CommitOperationAdd("photos/example.jpg", b"jpeg"), CommitOperationAdd("NOTES.md", b"mine")]
    hub.api().create_commit(REPO, note, commit_message="By hand")
    second = write_result(tmp_path / "second", 2)
    push(hub, second)
    assert at_head(hub, tmp_path) == {**content(second), "photos/example.jpg": b"jpeg", "NOTES.md": b"mine"}
    old = hub.api().snapshot_download(REPO, revision=first.commit, cache_dir=tmp_path / "old")
    assert (Path(old) / "base" / "model.safetensors").is_file()


def test_a_card_that_a_person_edited_is_kept_unless_told_otherwise(hub: Hub, tmp_path: Path) -> None:
    push(hub, write_result(tmp_path / "first", 1))
    mine = b"---\nlicense: mit\n---\n# Mine\n"
    hub.api().create_commit(REPO, [CommitOperationAdd("README.md", mine)], commit_message="By hand")
    second = write_result(tmp_path / "second", 2)
    done = push(hub, second)
    assert done.kept_card
    assert at_head(hub, tmp_path) == {**content(second), "README.md": mine}
    assert not push(hub, second).changed
    assert not push(hub, second, replace_card=True).kept_card
    assert at_head(hub, tmp_path) == content(second)


def test_a_card_that_was_there_first_is_kept_and_a_header_alone_is_not(hub: Hub, tmp_path: Path) -> None:
    folder = write_result(tmp_path / "result")
    for name, card in (("written", b"---\nlicense: mit\n---\n\n# Mine\n"), ("header", b"---\nlicense: mit\n---\n")):
        repo = f"{REPO}-{name}"
        hub.api().create_repo(repo, private=True)
        hub.api().create_commit(repo, [CommitOperationAdd("README.md", card)], commit_message="By hand")
        assert push(hub, folder, repo=repo).kept_card == (name == "written")


def test_a_repo_of_something_else_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    hub.api().create_repo(REPO, private=True)
    hub.api().create_commit(REPO, [CommitOperationAdd("model.safetensors", b"mine")], commit_message="Mine")
    with pytest.raises(HubError, match=r"holds other files, and no result of hf-finetune: model\.safetensors"):
        push(hub, write_result(tmp_path / "result"))
    assert at_head(hub, tmp_path) == {"model.safetensors": b"mine"}


def test_a_public_repo_is_not_taken_for_a_private_one(hub: Hub, tmp_path: Path) -> None:
    hub.api().create_repo(REPO, private=False)
    folder = write_result(tmp_path / "result")
    with pytest.raises(HubError, match="is a public repo, and a private one was asked for"):
        push(hub, folder)
    assert push(hub, folder, private=False).changed


def test_a_repo_that_was_renamed_is_found_under_its_new_name(hub: Hub, tmp_path: Path) -> None:
    push(hub, write_result(tmp_path / "first", 1))
    hub.api().move_repo(REPO, "org/beans-2")
    second = write_result(tmp_path / "second", 2)
    assert push(hub, second).repo == "org/beans-2"
    assert at_head(hub, tmp_path, "org/beans-2") == content(second)


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        ("other/beans", TOKEN, "this machine's token may not write there"),
        ("readers/beans", TOKEN, "this machine's token may not write there"),
        (REPO, READ_TOKEN, "this machine's token may not write there"),
        (REPO, OTHER_TOKEN, "this machine's token may not write there"),
        (REPO, UNKNOWN_TOKEN, "does not accept this machine's token"),
    ],
)
def test_without_the_right_nothing_is_written(hub: Hub, tmp_path: Path, repo: str, token: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        push(hub, write_result(tmp_path / "result"), repo=repo, token=token)
    assert not any(method == "POST" and status == 200 for method, path, status in hub.requests if "commit" in path)


def test_a_public_repo_of_somebody_else_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.api(OTHER_TOKEN).create_repo("other/beans", private=False)
    with pytest.raises(HubError, match="this machine's token may not write there"):
        push(hub, write_result(tmp_path / "result"), repo="other/beans", private=False)


def test_a_card_that_the_hub_refuses_is_said_before_anything_is_sent(hub: Hub, tmp_path: Path) -> None:
    folder = write_result(tmp_path / "result")
    (folder / "README.md").write_text("---\nlicense: no such licence\n---\n")
    with pytest.raises(HubError, match="license"):
        push(hub, folder)
    assert not any("/lfs/" in path or "/commit/" in path for _, path, _ in hub.requests)


# Every call of a push, by what the Hub is asked; `info` is asked several times.
CALLS = {
    "info": r"GET /api/models/loopback/beans$",
    "create": r"POST /api/repos/create",
    "card": r"POST /api/validate-yaml",
    "preupload": r"POST .*/preupload/",
    "batch": r"POST .*/info/lfs/objects/batch",
    "blob": r"^PUT ",
    "verify": r"POST .*verify",
    "commit": r"POST .*/commit/",
    "download": r"(HEAD|GET) .*/resolve/",
}
PASSING = ["429", "500", "503", "drop", "drop_body", "drop_reply", "cut_reply", "slow", "412"]


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("call", CALLS)
def test_a_fault_that_passes_is_overcome_or_said_and_a_second_push_completes_it(
    hub: Hub, tmp_path: Path, call: str, kind: Any
) -> None:
    folder = write_result(tmp_path / "result")
    hub.server.faults.add(kind, CALLS[call], seconds=0.05 if kind == "slow" else 0)
    try:
        push(hub, folder)
    except HubError:
        hub.server.faults.clear()
        push(hub, folder)
        # Only what no client can take for a moment's trouble: a conflict that is none, an answer cut in the middle.
        assert kind in ("412", "cut_reply")
    assert at_head(hub, tmp_path) == content(folder)
    assert pushes(hub) == 1


@pytest.mark.parametrize("kind", ["401", "403", "507", "503", "drop"])
@pytest.mark.parametrize("call", ["info", "create", "preupload", "batch", "blob", "commit", "download"])
def test_a_fault_that_stays_fails_loudly_and_leaves_no_half(hub: Hub, tmp_path: Path, call: str, kind: Any) -> None:
    before = write_result(tmp_path / "before", 1)
    push(hub, before)
    after = write_result(tmp_path / "after", 2)
    repo = REPO if call != "create" else "loopback/new"
    skip = 2 if call == "download" else 0  # the first two ask for the old card
    hub.server.faults.add(kind, CALLS[call].replace("beans", "(beans|new)"), times=10_000, skip=skip)
    with pytest.raises(HubError) as refused:
        push(hub, after, repo=repo)
    assert refused.value.hint
    hub.server.faults.clear()
    if call != "create":  # a commit whose comparison failed has arrived; anything earlier left the old one
        assert at_head(hub, tmp_path) == content(after if call == "download" else before)
    push(hub, after, repo=repo)
    assert at_head(hub, tmp_path, repo) == content(after)
    assert pushes(hub, repo) == (1 if repo != REPO else 2)


def test_two_machines_pushing_to_one_repo_both_arrive_whole(hub: Hub, tmp_path: Path) -> None:
    folders = [write_result(tmp_path / str(number), number) for number in (1, 2)]
    done: list[Uploaded] = []
    threads = [threading.Thread(target=lambda f=folder: done.append(push(hub, f))) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    assert pushes(hub) == 2
    assert at_head(hub, tmp_path) in [content(folder) for folder in folders]
    for folder, sent in ((folder, sent) for sent in done for folder in folders):
        if content(folder) == _at(hub.api(), sent.commit, tmp_path):
            break
    else:
        pytest.fail("neither commit holds a whole result")


@dataclass(frozen=True)
class Meanwhile(Patience):
    """Patience during whose first wait something happens."""

    happens: Callable[[], object] = lambda: None

    def wait_s(self, failures: int, asked_s: float | None) -> float:
        if failures == 1:
            self.happens()
        return super().wait_s(failures, asked_s)


def test_a_commit_whose_answer_was_lost_is_not_repeated_after_somebody_elses(hub: Hub, tmp_path: Path) -> None:
    push(hub, write_result(tmp_path / "0", 0))
    mine, theirs = write_result(tmp_path / "1", 1), write_result(tmp_path / "2", 2)
    hub.server.faults.add("drop_reply", CALLS["commit"])
    patience = Meanwhile(tries=4, first_s=0.001, happens=lambda: push(hub, theirs))
    done = push(hub, mine, patience=patience)
    assert hub.server.faults.applied
    assert content(mine) == _at(hub.api(), done.commit, tmp_path)
    assert at_head(hub, tmp_path) == content(theirs)
    assert pushes(hub) == 3


def test_a_conflict_with_somebody_elses_push_is_resolved_on_top_of_it(hub: Hub, tmp_path: Path) -> None:
    push(hub, write_result(tmp_path / "0", 0))
    mine, theirs = write_result(tmp_path / "1", 1), write_result(tmp_path / "2", 2, base=True)
    hub.server.faults.add("503", CALLS["commit"])
    push(hub, mine, patience=Meanwhile(tries=4, first_s=0.001, happens=lambda: push(hub, theirs)))
    assert at_head(hub, tmp_path) == content(mine)  # without a file of theirs
    assert pushes(hub) == 3


def _at(api: HfApi, commit: str, tmp_path: Path) -> dict[str, bytes]:
    place = Path(api.snapshot_download(REPO, revision=commit, cache_dir=tmp_path / f"at-{commit}"))
    return {path: data for path, data in content(place).items() if path != ".gitattributes"}
