"""The recipe's `hub` section."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from hf_finetune.section import Section

# The Hub's own rules (huggingface_hub.utils.validate_repo_id): at most 96 characters, no -- and no .., no .git ending.
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_ID = re.compile(rf"(?:{_PART}/)?{_PART}", re.ASCII)


def check_repo(name: str) -> str:
    """The name itself, if the Hub takes it. Raises ValueError."""
    if not _ID.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git") or len(name) > 96:
        raise ValueError(
            f"a Hub repo such as user/name is expected (letters, digits, '-', '_', '.'; 96 characters), found {name!r}"
        )
    return name


class Hub(Section):
    """Where the result is pushed when the run is finished."""

    repo: Annotated[str, AfterValidator(check_repo)] | None = Field(
        default=None, description="user/name, or a name in your own account; null: nothing is pushed"
    )
    private: bool = Field(default=True, description="a new repo is private; false makes it public")
    merged: bool = Field(default=False, description="also push the whole model, merged, to REPO-merged")
