"""What can go wrong with a Hub dataset, worded: not found, gated, unreachable, several configurations, no disk."""

from __future__ import annotations

import errno

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import listing
from hf_finetune.errors import DataError, first_line
from hf_finetune.network.patience import causes


def explain(error: BaseException, config: Data, local_hint: str) -> DataError:
    """The DataError for whatever the Hub or `datasets` raised. `local_hint`: in case a folder was meant."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    chain = list(causes(error))
    name = config.name
    if any(isinstance(cause, GatedRepoError) or "is a gated dataset" in str(cause) for cause in chain):
        from huggingface_hub import constants

        return DataError(
            f"data.name: {name} is gated on the Hub, and this machine's token has no access to it",
            f"accept its conditions at {constants.ENDPOINT}/datasets/{name}, then log in with `hf auth login`",
        )
    if any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        return DataError(
            f"data.revision: the dataset {name} has no branch, tag or commit {config.revision!r}",
            "look at its files and versions on the Hub, or set data.revision to null",
        )
    if any(isinstance(cause, RepositoryNotFoundError | HFValidationError) for cause in chain):
        return DataError(
            f"data.name: a local folder, table file or Hub dataset is expected, found no {name} in any of them",
            _joined(local_hint, "if it is a private dataset, log in with `hf auth login`"),
        )
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in chain) or any(
        "enough disk space" in str(cause) for cause in chain
    ):
        return DataError(
            f"data.name: {name} does not fit on the disk: {error}",
            "free some disk, or set HF_HOME to a folder elsewhere",
        )
    if any("scripts are no longer supported" in str(cause) for cause in chain):
        return DataError(
            f"data.name: {name} is read by a script of its own, which datasets no longer runs",
            "many such datasets have a Parquet copy: set data.revision=refs/convert/parquet",
        )
    return _configuration(chain, config) or _other(error, chain, config, local_hint)


def not_cached(config: Data, local_hint: str, prepared: Exception | None) -> DataError:
    """The DataError for a dataset that is not at hand while offline."""
    if prepared is not None and "onfig" in str(prepared) and isinstance(prepared, ValueError):
        return DataError(
            f"data.config: {config.name} is cached, but not so: {prepared}", "set data.config to one of these"
        )
    at = f" at revision {config.revision}" if config.revision else ""
    cached = cached_datasets()
    return DataError(
        f"data.name: {config.name}{at} is expected in the cache, because HF_HUB_OFFLINE is set; cached are "
        f"{listing(cached, 10) or 'none'}",
        _joined(local_hint, f"run once without HF_HUB_OFFLINE, or `hf download --repo-type dataset {config.name}`"),
    )


def cached_datasets() -> list[str]:
    """Ids of the datasets in the Hub's cache of this machine."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "dataset")
    except CacheNotFound:
        return []


def _configuration(causes: list[BaseException], config: Data) -> DataError | None:
    text = next((str(cause) for cause in causes if isinstance(cause, ValueError)), "")
    if "Config name is missing" not in text and "BuilderConfig" not in text:
        return None
    available = listing(_between(text, "[", "]"), 40) or "others"
    if config.config is None:
        return DataError(
            f"data.config: {config.name} has several configurations, found none named; it has {available}",
            "set data.config to one of these",
        )
    return DataError(
        f"data.config: {config.name} has no configuration {config.config!r}; it has {available}",
        "set data.config to one of these",
    )


def _joined(local_hint: str, hint: str) -> str:
    return f"{local_hint} {hint[0].upper()}{hint[1:]}" if local_hint else hint


def _between(text: str, start: str, end: str) -> list[str]:
    inner = text.partition(start)[2].partition(end)[0]
    return [part.strip().strip("'\"") for part in inner.split(",") if part.strip()]


def _other(error: BaseException, causes: list[BaseException], config: Data, local_hint: str) -> DataError:
    import httpx2

    if any(isinstance(cause, ConnectionError | TimeoutError | httpx2.HTTPError) for cause in causes):
        held = (
            "it is in the cache: set HF_HUB_OFFLINE=1 to use that copy"
            if config.name in cached_datasets()
            else ("it is not in the cache either")
        )
        return DataError(
            f"data.name: the Hub could not be reached for {config.name}: {type(error).__name__}: {first_line(error)}",
            _joined(local_hint, f"check the network and try again; {held}"),
        )
    return DataError(
        f"data.name: {config.name} could not be loaded: {type(error).__name__}: {first_line(error)}",
        "look at the dataset's page on the Hub; data.config and data.revision choose what is loaded",
    )
