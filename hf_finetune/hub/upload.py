"""One folder to one repo, as one commit, whole or not at all; then fetched again and compared.

Each try begins by asking what the repo's head holds, so that a commit whose answer was lost is found and not repeated,
a conflict with another machine is resolved (the later push wins as a whole), and a finished push changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import HubError
from hf_finetune.hub.refusals import refusal
from hf_finetune.network.patience import Patience, may_pass, patiently, status_of, wait
from hf_finetune.report.card_mark import is_unedited
from hf_finetune.result.files import CARD, PATTERNS, LocalFile, is_published, local_files, sha256_of
from hf_finetune.result.manifest import FILE as MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

logger = logging.getLogger(__name__)
_HEADER = re.compile(r"\A---\r?\n.*?^---\s*$", re.DOTALL | re.MULTILINE)  # of a card: its YAML
_STALE = 412  # the parent commit is not the head any more
# What a new repo holds, or a person adds to one before the first push.
_HARMLESS = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.txt", "LICENSE.md", CARD}


@dataclass(frozen=True)
class Uploaded:
    """`changed`: False where the repo held all of it already; `kept_card`: the repo's own card was left as it is."""

    repo: str
    commit: str
    changed: bool
    kept_card: bool


def upload(
    api: HfApi,
    folder: Path,
    repo: str,
    *,
    private: bool,
    title: str,
    patience: Patience | None = None,
    replace_card: bool = False,
) -> Uploaded:
    """Make `repo` hold exactly the folder's published files (others there are left), and prove it.

    Raises HubError; the repo then holds what it held before, or all of it.
    """
    import httpx2

    patience = patience or Patience()
    try:
        name = _existing_or_new(api, repo, private, patience)
        local = local_files(folder)
        done = _commit(api, name, local, title, patience, replace_card)
        _check_arrived(api, done, folder, local, patience)
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise refusal(error, repo) from error
    return done


def known_as(api: HfApi, repo: str, private: bool, patience: Patience) -> str | None:
    """The repo's name today (the Hub redirects after a rename); None where there is none yet.

    Raises HubError for a public repo where a private one was asked for.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info: Any = patiently(lambda: api.repo_info(repo), f"Asking about {repo}", patience)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise HubError(
            f"hub.private: {info.id} is a public repo, and a private one was asked for",
            "set hub.private: false (--public) to publish there, or choose another name",
        )
    if info.id != repo:
        logger.info("%s is called %s now.", repo, info.id)
    return info.id


def _existing_or_new(api: HfApi, repo: str, private: bool, patience: Patience) -> str:
    found = known_as(api, repo, private, patience)
    if found is not None:
        return found
    made = patiently(lambda: api.create_repo(repo, private=private, exist_ok=True), f"Creating {repo}", patience)
    logger.info("Created %s (%s).", made.repo_id, "private" if private else "public")
    return known_as(api, made.repo_id, private, patience) or made.repo_id


def _commit(
    api: HfApi, repo: str, local: dict[str, LocalFile], title: str, patience: Patience, replace_card: bool
) -> Uploaded:
    import httpx2
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    mark = _mark(local)
    began_at = None
    failures = 0
    while True:
        head: Any = patiently(lambda: api.repo_info(repo, files_metadata=True), f"Asking about {repo}", patience)
        there = {file.rfilename: file for file in head.siblings or ()}
        began_at = began_at or head.sha
        _refuse_foreign(repo, there)
        kept = not replace_card and _is_edited(api, repo, head.sha, there, local, patience)
        wanted = {path: file for path, file in local.items() if not (kept and path == CARD)}
        changed = [path for path, file in wanted.items() if not _is_there(there.get(path), file)]
        gone = [path for path in there if is_published(path) and path not in local]
        if not changed and not gone:
            return Uploaded(repo, head.sha, changed=failures > 0, kept_card=kept)
        landed = _landed(api, repo, began_at, mark, patience) if failures else None
        if landed:
            return Uploaded(repo, landed, changed=True, kept_card=kept)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(wanted[path].path)) for path in changed
        ]
        operations += [CommitOperationDelete(path_in_repo=path) for path in gone]
        try:
            done = api.create_commit(
                repo, operations, commit_message=title, commit_description=mark, parent_commit=head.sha
            )
            return Uploaded(repo, done.oid, changed=True, kept_card=kept)
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            failures += 1
            if failures >= patience.tries or not (status_of(error) == _STALE or may_pass(error)):
                raise
            wait(f"Pushing to {repo}", error, failures, patience)


def _mark(local: Mapping[str, LocalFile]) -> str:
    """Goes into the commit's description, so that this very content is known again in the history."""
    listing = "\n".join(f"{path} {file.sha256}" for path, file in sorted(local.items()))
    return f"content sha256 {hashlib.sha256(listing.encode()).hexdigest()}"


def _is_there(remote: Any, file: LocalFile) -> bool:
    if remote is None:
        return False
    return remote.lfs.sha256 == file.sha256 if remote.lfs is not None else remote.blob_id == file.git_oid


def _refuse_foreign(repo: str, there: Mapping[str, Any]) -> None:
    strange = sorted(set(there) - _HARMLESS)
    if strange and MANIFEST not in there:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise HubError(
            f"hub.repo: {repo} holds other files, and no result of hf-finetune: {', '.join(strange[:3])}{more}",
            "choose another name; a result gets a repo of its own",
        )


def _is_edited(
    api: HfApi, repo: str, commit: str, there: Mapping[str, Any], local: Mapping[str, LocalFile], patience: Patience
) -> bool:
    """Whether the repo's card was written, or changed, by a person; such a card is theirs."""
    remote = there.get(CARD)
    if remote is None or _is_there(remote, local[CARD]):
        return False
    with tempfile.TemporaryDirectory(prefix="hf_finetune_") as place:
        path = patiently(
            lambda: api.hf_hub_download(repo, CARD, revision=commit, local_dir=place), f"Reading {repo}", patience
        )
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    if MANIFEST not in there:  # a new repo's card: the Hub's form writes a header alone
        return bool(_HEADER.sub("", text).strip())
    return not is_unedited(text)


def _landed(api: HfApi, repo: str, since: str, mark: str, patience: Patience) -> str | None:
    """The commit of this content that was made after `since`, where its answer was lost on the way."""
    for commit in patiently(lambda: api.list_repo_commits(repo), f"Reading the history of {repo}", patience):
        if commit.commit_id == since:
            return None
        if mark in commit.message:
            return commit.commit_id
    return None


def _check_arrived(
    api: HfApi, done: Uploaded, folder: Path, local: Mapping[str, LocalFile], patience: Patience
) -> None:
    """Fetch the commit into an empty folder and compare every byte's hash."""
    wanted = {path: file for path, file in local.items() if not (done.kept_card and path == CARD)}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.back.") as place:
        back = patiently(
            lambda: api.snapshot_download(
                done.repo, revision=done.commit, local_dir=place, allow_patterns=list(PATTERNS)
            ),
            f"Fetching {done.repo} again",
            patience,
        )
        arrived = {path: Path(back) / path for path in wanted}
        wrong = [path for path, file in arrived.items() if not file.is_file() or sha256_of(file) != wanted[path].sha256]
    if wrong:
        raise HubError(
            f"{done.repo} at {done.commit}: what came back is not what was sent: {', '.join(wrong)}",
            "run the same command again; the result on this machine is whole",
        )
