"""A published result by its Hub id: only the files of the allowlist, from the cache when offline."""

from __future__ import annotations

import re
from pathlib import Path

from hf_finetune.errors import AdapterError
from hf_finetune.network.fetch import fetch
from hf_finetune.result.files import PATTERNS

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def looks_like_repo(place: str) -> bool:
    """Whether a text that is no path here may name a repo: `user/name`."""
    return _ID.fullmatch(place) is not None


def fetch_result(repo: str, revision: str | None = None) -> Path:
    """The folder of `repo` in the Hub's cache, fetched where it is new there. Raises AdapterError."""
    from huggingface_hub import snapshot_download

    def files() -> str:
        return snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS))

    return fetch(files, repo, revision, AdapterError)
