"""Who may see and change what on the Hub on loopback, asked with the real client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub_server import repos
from tests.hub_server.fixture import Hub
from tests.hub_server.users import OTHER_TOKEN, READ_TOKEN, SCOPED_TOKEN, TOKEN, UNKNOWN_TOKEN

pytestmark = pytest.mark.usefixtures("in_process")


def push(api: HfApi, name: str, text: str = "{}") -> str:
    return api.create_commit(name, [CommitOperationAdd("config.json", text.encode())], commit_message="Upload").oid


def status(call: Callable[[], Any]) -> int:
    """The status with which the Hub refuses `call`."""
    with pytest.raises(HfHubHTTPError) as refused:
        call()
    return refused.value.response.status_code


def test_whoami_tells_the_name_the_organisations_and_what_the_token_is_for(hub: Hub) -> None:
    seen = {token: hub.api(token).whoami() for token in (TOKEN, READ_TOKEN, SCOPED_TOKEN, OTHER_TOKEN)}
    assert [answer["name"] for answer in seen.values()] == ["loopback", "loopback", "loopback", "other"]
    roles = [answer["auth"]["accessToken"]["role"] for answer in seen.values()]
    assert roles == ["write", "read", "fineGrained", "write"]
    assert {org["name"]: org["roleInOrg"] for org in seen[TOKEN]["orgs"]} == {"org": "write", "readers": "read"}
    scoped = seen[SCOPED_TOKEN]["auth"]["accessToken"]["fineGrained"]["scoped"]
    assert [(entry["entity"]["name"], "repo.write" in entry["permissions"]) for entry in scoped] == [("org", True)]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hub.api(UNKNOWN_TOKEN).whoami()


def test_each_token_creates_where_its_user_may(hub: Hub) -> None:
    places = {
        token: [name for name in ("loopback", "org", "readers", "other", "google") if creates(hub, token, name)]
        for token in (TOKEN, READ_TOKEN, SCOPED_TOKEN, OTHER_TOKEN)
    }
    assert places == {TOKEN: ["loopback", "org"], READ_TOKEN: [], SCOPED_TOKEN: ["org"], OTHER_TOKEN: ["other"]}
    assert status(lambda: hub.api(None).create_repo("loopback/new")) == 401
    assert status(lambda: hub.api(UNKNOWN_TOKEN).create_repo("loopback/new")) == 401


def creates(hub: Hub, token: str, namespace: str) -> bool:
    name = f"{namespace}/by-{token.replace('_', '-')}"
    try:
        hub.api(token).create_repo(name)
    except HfHubHTTPError as refused:
        assert refused.response.status_code == 403
        return False
    return (hub.folder / "models" / name).is_dir()


def test_a_private_repo_is_hidden_from_whoever_is_not_of_its_namespace(hub: Hub) -> None:
    hub.api().create_repo("loopback/secret", private=True)
    commit = push(hub.api(), "loopback/secret")
    for token, expected in ((None, 401), (OTHER_TOKEN, 404), (SCOPED_TOKEN, 404), (UNKNOWN_TOKEN, 401)):
        assert status(lambda token=token: hub.api(token).repo_info("loopback/secret")) == expected
    with pytest.raises(RepositoryNotFoundError):
        hub.api(OTHER_TOKEN).hf_hub_download("loopback/secret", "config.json")
    with pytest.raises(RepositoryNotFoundError):
        push(hub.api(OTHER_TOKEN), "loopback/secret")
    assert hub.api(READ_TOKEN).repo_info("loopback/secret").sha == commit
    hub.api().update_repo_settings("loopback/secret", private=False)
    assert hub.api(None).repo_info("loopback/secret").private is False
    hub.api().create_repo("org/shared", private=True)
    assert hub.api(OTHER_TOKEN).repo_info("org/shared").private is True  # a reader of the organisation


def test_a_gated_repo_shows_itself_but_not_its_files(hub: Hub, tmp_path: Path) -> None:
    repos.restrict(repos.model_config(hub.folder, "google/gated", {}, None), "gated")
    repos.restrict(repos.model_config(hub.folder, "google/open", {}, None), "public")
    for token in (None, OTHER_TOKEN):
        assert hub.api(token).model_info("google/gated").gated == "manual"
        with pytest.raises(GatedRepoError):
            hub.api(token).hf_hub_download("google/gated", "config.json", cache_dir=tmp_path)
        with pytest.raises(GatedRepoError):
            hub.api(token).auth_check("google/gated")
        hub.api(token).auth_check("google/open")
    assert Path(hub.api().hf_hub_download("google/gated", "config.json", cache_dir=tmp_path)).read_text() == "{}"


def test_without_the_right_to_write_a_push_is_refused_before_anything_is_sent(hub: Hub) -> None:
    hub.api().create_repo("loopback/open")
    head = hub.api().repo_info("loopback/open").sha
    for token, expected in ((READ_TOKEN, 403), (OTHER_TOKEN, 403), (SCOPED_TOKEN, 403), (UNKNOWN_TOKEN, 401)):
        assert status(lambda token=token: push(hub.api(token), "loopback/open")) == expected
    with pytest.raises(HfHubHTTPError, match="must use a write token"):
        hub.api(READ_TOKEN).delete_repo("loopback/open")
    with pytest.raises(RepositoryNotFoundError):
        push(hub.api(None), "loopback/open")
    assert hub.api().repo_info("loopback/open").sha == head
    assert [path for method, path, _ in hub.requests if "/commit/" in path] == []


def test_a_renamed_repo_answers_under_its_old_name(hub: Hub, tmp_path: Path) -> None:
    api = hub.api()
    api.create_repo("loopback/old")
    first = push(api, "loopback/old", "1")
    api.move_repo("loopback/old", "org/middle")
    api.move_repo("org/middle", "org/new")
    assert api.repo_info("loopback/old").id == "org/new"
    assert Path(api.hf_hub_download("loopback/old", "config.json", cache_dir=tmp_path)).read_text() == "1"
    redirected = [(path, code) for _, path, code in hub.requests if code == 307]
    assert ("/api/models/loopback/old", 307) in redirected
    assert ("/loopback/old/resolve/main/config.json", 307) in redirected
    second = push(api, "loopback/old", "22")
    assert [commit.commit_id for commit in api.list_repo_commits("org/new")][:2] == [second, first]
    assert (hub.folder / "models" / "org" / "new" / "config.json").read_text() == "22"
    assert not (hub.folder / "models" / "loopback" / "old").exists()
    api.create_repo("loopback/old")  # from now on the name is that of another repo
    assert api.repo_info("loopback/old").id == "loopback/old"
    assert api.repo_info("org/middle").id == "org/new"


def test_a_rename_into_a_name_that_is_taken_or_of_others_is_refused(hub: Hub) -> None:
    for name in ("loopback/one", "loopback/two"):
        hub.api().create_repo(name)
    assert status(lambda: hub.api().move_repo("loopback/one", "loopback/two")) == 409
    assert status(lambda: hub.api().move_repo("loopback/one", "other/one")) == 403
    assert status(lambda: hub.api(OTHER_TOKEN).move_repo("loopback/one", "other/one")) == 403
    assert status(lambda: hub.api().move_repo("loopback/none", "loopback/three")) == 404
    hub.api().create_repo("loopback/hidden", private=True)
    hub.api().move_repo("loopback/hidden", "loopback/still-hidden")
    assert status(lambda: hub.api(None).repo_info("loopback/hidden")) == 404


def test_a_deleted_repo_is_gone_and_begins_anew(hub: Hub) -> None:
    api = hub.api()
    api.create_repo("loopback/short")
    old = push(api, "loopback/short")
    api.delete_repo("loopback/short")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("loopback/short")
    api.delete_repo("loopback/short", missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        push(api, "loopback/short")
    api.create_repo("loopback/short")
    assert [commit.title for commit in api.list_repo_commits("loopback/short")] == ["initial commit"]
    assert not api.revision_exists("loopback/short", old)
