"""What the Hub's refusals mean for a person: what was expected, what was found, what to do."""

from __future__ import annotations

from hf_finetune.errors import HubError, first_line
from hf_finetune.network.patience import causes, may_pass, status_of

_LOGIN = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"


def refusal(error: BaseException, repo: str) -> HubError:
    """The HubError for what huggingface_hub raised while `repo` was created, asked about, committed to or read."""
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

    chain = list(causes(error))
    status = status_of(error)
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain):
        return HubError(
            f"{repo}: nothing can be pushed while HF_HUB_OFFLINE is set", "unset it where there is a network"
        )
    if any(isinstance(cause, LocalTokenNotFoundError) for cause in chain):
        return HubError(f"{repo}: no Hub token was found on this machine", _LOGIN)
    if status == 401:
        return HubError(f"{repo}: the Hub does not accept this machine's token, or has no such private repo", _LOGIN)
    if status == 403:
        return HubError(
            f"{repo}: this machine's token may not write there: {said(error)}",
            "use a token with write access, and a name in your own account or in an organisation that lets you write",
        )
    if status == 404 or any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return HubError(f"{repo}: there is no such repo, or it is private to others", f"check the name; {_LOGIN}")
    if status == 402 or status == 507:
        return HubError(f"{repo}: the Hub has no room left for this account: {said(error)}", "free some there")
    if status is not None and status < 500:
        return HubError(f"{repo}: the Hub refuses ({status}): {said(error)}", "the reason is the Hub's own")
    if status is not None:
        return HubError(f"{repo}: the Hub is in trouble ({status}) and was asked several times", "try again later")
    if isinstance(error, ValueError):
        return HubError(f"{repo}: the Hub refuses: {first_line(error)}", "the reason is the Hub's own")
    what = "the Hub could not be reached" if may_pass(error) else "the push failed"
    return HubError(
        f"{repo}: {what}: {type(chain[-1]).__name__}: {first_line(chain[-1])}",
        "check the network and the disk, and run the same command again: it goes on",
    )


def said(error: BaseException) -> str:
    """The Hub's own words, else the first line of the error's."""
    for cause in causes(error):
        words = getattr(cause, "server_message", None)
        if words:
            return str(words).strip().splitlines()[0]
    return first_line(error)
