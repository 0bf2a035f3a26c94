"""The connection to the Hub, and whether a push can work, asked before training spends minutes on it.

The token comes from the environment or the login store (huggingface_hub finds it); it is never taken as an argument,
kept or written.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.errors import HubError, first_line
from hf_finetune.hub.refusals import refusal
from hf_finetune.hub.stage import local_base
from hf_finetune.network.patience import Patience, may_pass, patiently
from hf_finetune.recipe.hub import Hub
from hf_finetune.types import is_builtin

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)
# huggingface_hub waits for ever: a stalled connection would hang a push. Seconds to connect, and between two bytes.
_CONNECT_S, _SILENCE_S = 20.0, 300.0


def connect(silence_s: float = _SILENCE_S) -> HfApi:
    """A client whose requests end, in this whole process. Raises HubError where there is no token, or no network."""
    from huggingface_hub import HfApi, constants, get_token, set_client_factory

    if constants.is_offline_mode():
        raise HubError("nothing can be pushed while HF_HUB_OFFLINE is set", "unset it where there is a network")
    if get_token() is None:
        raise HubError(
            "pushing needs a Hub token, and this machine has none",
            "log in with `hf auth login`, or set HF_TOKEN, with a token that may write",
        )
    set_client_factory(lambda: _impatient_client(silence_s))
    return HfApi()


def _impatient_client(silence_s: float) -> httpx2.Client:
    import httpx2
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.timeout = httpx2.Timeout(silence_s, connect=_CONNECT_S)
    return client


def full_name(api: HfApi, repo: str, patience: Patience | None = None) -> str:
    """`user/name`, for a name alone too. Raises HubError for a token that the Hub refuses, or that may only read."""
    import httpx2

    try:
        user = patiently(api.whoami, "Asking who this token belongs to", patience or Patience())
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise refusal(error, repo) from error
    token = (user.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(
            f"hub.repo: {repo} is to be written, but this machine's token may only read",
            "make a token with write access at https://huggingface.co/settings/tokens, and `hf auth login`",
        )
    return repo if "/" in repo else f"{user['name']}/{repo}"


def check_before_training(hub: Hub, model: str, *, whole: bool) -> None:
    """Raise HubError for a push that cannot work. A Hub that does not answer now is only warned of."""
    import httpx2

    if hub.repo is None:
        return
    if not whole and not is_builtin(model) and Path(model).expanduser().is_dir():
        raise local_base(model)
    api = connect(silence_s=10.0)
    try:
        full_name(api, hub.repo, Patience(tries=1))
    except HubError as error:
        cause = error.__cause__
        if not isinstance(cause, httpx2.HTTPError | OSError) or not may_pass(cause):
            raise
        logger.warning("The Hub does not answer now (%s); the push is tried after training.", first_line(cause))
