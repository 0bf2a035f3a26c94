"""Datasets of the Hugging Face Hub: resolves the commit, loads through `datasets`, or tar shards as they are, and says
what to do when it fails.

Owns what is loaded and from where (the Hub, or a cache when offline); the errors are worded by `hub_errors`, the rows
are read by `hf_rows`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources.card_facts import card_licence
from hf_finetune.data.sources.folders.folder import read_folder
from hf_finetune.data.sources.hf_rows import read_datasets
from hf_finetune.data.sources.hub_errors import explain, not_cached
from hf_finetune.data.sources.inside import held_inside
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES, TABLE_SUFFIXES, is_shard
from hf_finetune.data.sources.source import Source
from hf_finetune.data.sources.streamed.from_hub import read_listed, read_streamed
from hf_finetune.errors import DataError
from hf_finetune.network.patience import Patience, patiently

PATIENCE = Patience(tries=3)
_OTHER_DATA = (".arrow", ".zip", ".npz", ".h5", ".hdf5", ".lance")
COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(config: Data, local_hint: str) -> Source:
    """The rows of the Hub dataset `config.name` at `config.revision`. `local_hint`: in case a folder was meant.

    Raises DataError where it is not found, gated, unreachable and not cached, or in several configurations.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return _read_cached(config, local_hint)
    info = _resolve(config, local_hint)
    shards = _shards_of(info, config)
    if (streamed := read_streamed(info, shards, config, local_hint)) is not None:
        _remember(config.model_copy(update={"revision": config.revision or "main"}))
        return streamed
    if shards is not None:
        folder = _fetch(shards, info, config, local_hint)
        # Once all is there, so that nobody takes some of the shards for the dataset while offline.
        _remember(config.model_copy(update={"revision": config.revision or "main"}))
        return _inside(read_folder(folder, config, name=config.name, commit=info.sha), config)
    _remember(config)
    licence = getattr(info.card_data, "license", None)
    data = _load(config, info.sha, local_hint)
    found = _commit_of(data)
    if found is not None and found != info.sha:  # datasets falls back to any cached version when a download fails
        raise DataError(
            f"data.name: {config.name} at commit {info.sha} is expected, found only the cached commit {found}, because "
            "the Hub did not give the files",
            f"try again; to use the cached copy set data.revision={found} and HF_HUB_OFFLINE=1",
        )
    source = read_datasets(
        data,
        config,
        config.name,
        commit=info.sha,
        licence=", ".join(licence) if isinstance(licence, list) else licence,
        stamp=f"{config.name} {info.sha} {config.config}",
    )
    return _inside(source, config)


def _resolve(config: Data, local_hint: str) -> Any:
    """The Hub's metadata of the dataset; asks again when the Hub is busy or the connection breaks."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    def ask() -> Any:
        return HfApi().dataset_info(config.name, revision=config.revision, timeout=30.0, files_metadata=True)

    try:
        return patiently(ask, f"Asking about {config.name}", PATIENCE)
    except (HFValidationError, httpx2.HTTPError, OSError) as error:
        raise explain(error, config, local_hint) from error


def _shards_of(info: Any, config: Data) -> list[str] | None:
    """The tar shards of a repo that holds its images in nothing else, with what names their classes; None for another.

    `datasets` would write all images again into Arrow files of its own, twice the disk, and stops at a class that is no
    number and at a sample unlike the first ones. It reads what is left to it here: compressed shards, and
    configurations that the card divides files into.
    """
    files = [sibling.rfilename for sibling in info.siblings or ()]
    shards = [name for name in files if is_shard(name)]
    card = info.card_data.to_dict() if info.card_data is not None else {}
    others = any(Path(name).suffix.lower() in (*TABLE_SUFFIXES, *_OTHER_DATA, *IMAGE_SUFFIXES) for name in files)
    packed = any(not name.lower().endswith(".tar") for name in shards)
    if not shards or others or packed or config.config is not None or card.get("configs"):
        return None
    return [name for name in files if name in shards or Path(name).suffix.lower() in (".txt", ".json", ".md")]


def _fetch(files: list[str], info: Any, config: Data, local_hint: str) -> Path:
    """The folder of the Hub's cache that holds these files, fetched one by one. Raises DataError."""
    import httpx2
    from huggingface_hub import hf_hub_download

    folder = Path()
    for number, name in enumerate(files, 1):
        call = partial(hf_hub_download, config.name, name, repo_type="dataset", revision=info.sha)
        try:
            path = Path(patiently(call, f"Fetching file {number} of {len(files)} of {config.name}", PATIENCE))
        except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
            raise explain(error, config, local_hint) from error
        folder = path.parents[name.count("/")]
    return folder


def _remember(config: Data) -> None:
    """Let the Hub's cache know which commit a branch or tag means: `datasets` fetches by commit and does not say."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    if config.revision is None or COMMIT.fullmatch(config.revision):
        return
    # A card that is not there, or cannot be had now: the first is remembered too, the second costs offline use only.
    with suppress(EntryNotFoundError, HfHubHTTPError, OSError):
        hf_hub_download(config.name, "README.md", repo_type="dataset", revision=config.revision)


def _remembered(config: Data) -> str | None:
    """The commit that `data.revision` means by the Hub's cache; None where it knows of none, or none is named."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if config.revision is None or COMMIT.fullmatch(config.revision):
        return config.revision
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=config.name, repo_type="dataset")
    ref = folder / "refs" / config.revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None


def _load(config: Data, revision: str | None, local_hint: str) -> Any:
    import datasets
    import httpx2
    from datasets.exceptions import DatasetsError

    try:
        return datasets.load_dataset(config.name, config.config, revision=revision)
    except (DatasetsError, ValueError, RuntimeError, OSError, httpx2.HTTPError) as error:
        raise explain(error, config, local_hint) from error


def _read_cached(config: Data, local_hint: str) -> Source:
    """What an earlier run left: the prepared dataset, or a snapshot of its files."""
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted = _remembered(config)
    prepared_error: Exception | None = None
    try:
        data = datasets.load_dataset(config.name, config.config)
        commit = _commit_of(data)
        if config.revision is None or (wanted is not None and wanted == commit):
            stamp = {} if commit is None else {"stamp": f"{config.name} {commit} {config.config}"}
            licence = _cached_licence(config, commit)
            return _inside(read_datasets(data, config, config.name, commit=commit, licence=licence, **stamp), config)
    except (DatasetsError, ValueError, OSError) as error:
        prepared_error = error
    commit = _remembered(config.model_copy(update={"revision": config.revision or "main"}))
    if commit is not None and (streamed := read_listed(config, commit)) is not None:
        return streamed
    try:
        folder = Path(
            snapshot_download(config.name, repo_type="dataset", revision=config.revision, local_files_only=True)
        )
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise not_cached(config, local_hint, prepared_error) from error
    commit = folder.name if COMMIT.fullmatch(folder.name) else None
    return _inside(read_folder(folder, config, name=config.name, commit=commit), config)


def _inside(source: Source, config: Data) -> Source:
    """Held to the files that the Hub gave of this dataset, and what `datasets` made of them."""
    from datasets import config as made
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    own = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=config.name, repo_type="dataset")
    places = (made.HF_DATASETS_CACHE, made.DOWNLOADED_DATASETS_PATH, made.EXTRACTED_DATASETS_PATH)
    return held_inside(source, config, [own, *places], from_hub=True)


def _cached_licence(config: Data, commit: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(config.name, "README.md", revision=commit, repo_type="dataset") if commit else None
    return card_licence(Path(card).parent) if isinstance(card, str) else None


def _commit_of(data: Any) -> str | None:
    """The commit in the name of the folder where `datasets` prepared the first split; None where there is none."""
    splits = data.values() if isinstance(data, dict) else [data]
    for split in splits:
        for entry in split.cache_files:
            name = Path(entry["filename"]).parent.name
            return name if COMMIT.fullmatch(name) else None
    return None
