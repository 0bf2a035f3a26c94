"""A published result by its Hub id: only the files of the allowlist, from the cache when offline."""

from __future__ import annotations

import re
from pathlib import Path

from hf_finetune.errors import AdapterError
from hf_finetune.hub.files import PATTERNS
from hf_finetune.patience import Patience, patiently

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def looks_like_repo(place: str) -> bool:
    """Whether a text that is no path here may name a repo: `user/name`."""
    return _ID.fullmatch(place) is not None


def fetch_result(repo: str, revision: str | None = None) -> Path:
    """The folder of `repo` in the Hub's cache, fetched where it is new there. Raises AdapterError."""
    import httpx2
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision {revision!r}" if revision else ""
    patience = Patience(tries=1) if constants.is_offline_mode() else Patience(tries=3)
    try:
        return Path(
            patiently(
                lambda: snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS)),
                f"Fetching {repo}",
                patience,
            )
        )
    except GatedRepoError as error:
        raise AdapterError(
            f"{repo} is gated on the Hub, and this machine's token has no access to it",
            f"accept its conditions at {constants.ENDPOINT}/{repo}, then log in with `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise AdapterError(
            f"{repo} has no branch, tag or commit {revision!r}", f"see {constants.ENDPOINT}/{repo}/commits/main"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise AdapterError(
            f"{repo} is neither a folder here nor a repo on the Hub",
            "check the spelling; a private one needs `hf auth login`",
        ) from error
    except LocalEntryNotFoundError as error:
        offline = constants.is_offline_mode()
        why = "and HF_HUB_OFFLINE is set" if offline else "and the Hub cannot be reached"
        raise AdapterError(
            f"{repo}{at} is no folder here, is not in this machine's Hub cache, {why}",
            f"{'unset it' if offline else 'check the network'}, or fetch it once with `hf download {repo}`",
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise AdapterError(f"{repo}{at} could not be fetched: {error}", "try again later") from error
