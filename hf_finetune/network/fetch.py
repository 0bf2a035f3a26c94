"""Fetching a model's or a result's files from the Hub: tried patiently, and what stands in the way said in one way.

Does not own what is fetched, nor datasets, which come through `datasets` and have troubles of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hf_finetune.errors import FinetuneError
from hf_finetune.network.patience import Patience, http_errors, patiently

_TRIES = 3
# huggingface_hub 2.4 asks six times for a file, for 23 s, where the machine has no network, and once for a repo.
_GIVEN_UP_S = 10.0
CHECK_NETWORK = "check the network, and the proxy if there is one (HTTPS_PROXY)"


def fetch(
    call: Callable[[], str],
    name: str,
    revision: str | None,
    raised: type[FinetuneError],
    *,
    key: str = "",
    revision_key: str | None = None,
    look: str = "a Hub id such as user/name is expected",
    absent: str = "check the spelling",
) -> Path:
    """The path that `call` (a download of huggingface_hub's) returns for the repo `name`.

    Raises `raised`, opening with the recipe's `key` (`revision_key` for an unknown revision), where the repo is absent,
    private, gated, or out of reach; `look` is the remedy for a name that is none, `absent` for one that is not there.
    A file that the repo does not hold is huggingface_hub's own EntryNotFoundError.
    """
    from huggingface_hub import constants, errors

    at = f" at revision {revision!r}" if revision else ""
    where = f"{key}: {name!r}" if key else repr(name)
    page = f"{constants.ENDPOINT}/{name}"
    try:
        return Path(patiently(call, f"Fetching {name}", Patience(tries=_TRIES, given_up_s=_GIVEN_UP_S)))
    except errors.GatedRepoError as error:
        remedy = f"accept its terms at {page} and log in with `hf auth login`"
        raise raised(f"{where} is gated on the Hub and this machine has no access", remedy) from error
    except errors.RepositoryNotFoundError as error:
        remedy = f"{absent}; a private one needs `hf auth login`"
        raise raised(f"{where} is neither a folder here nor a model on the Hub", remedy) from error
    except errors.RevisionNotFoundError as error:
        where = f"{revision_key}: {name!r}" if revision_key else where
        raise raised(f"{where} has no branch, tag or commit {revision!r}", f"see {page}/commits/main") from error
    except errors.HFValidationError as error:
        raise raised(f"{where} is neither a folder here nor a possible Hub id", look) from error
    except errors.LocalEntryNotFoundError as error:
        offline = constants.is_offline_mode()
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        remedy = "unset HF_HUB_OFFLINE" if offline else "check the network"
        raise raised(
            f"{where}{at} is not in this machine's Hub cache, and {why}",
            f"{remedy}, or fetch it once with `hf download {name}`, or give a folder",
        ) from error
    except errors.EntryNotFoundError:
        raise
    except OSError as error:  # huggingface_hub's HTTP errors are OSErrors too
        raise raised(f"{where}{at} could not be fetched: {error}", "try again later") from error
    except http_errors() as error:
        raise raised(f"{where}{at} could not be fetched: {type(error).__name__}: {error}", CHECK_NETWORK) from error
