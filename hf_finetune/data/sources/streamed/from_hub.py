"""Datasets of the Hub that do not fit on the disk: which files they are, and that each is fetched, read and removed.

Owns the decision and the fetching. What the files hold is `listing.py`'s, which of them are there the fetcher's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources.hub_errors import explain
from hf_finetune.data.sources.naming import is_shard
from hf_finetune.data.sources.source import Source, count
from hf_finetune.data.sources.split_names import is_meant, splits_of_files
from hf_finetune.data.sources.streamed.fetcher import Fetcher, RemoteFile, free_bytes
from hf_finetune.data.sources.streamed.listing import JOURNAL, joined, list_files
from hf_finetune.data.sources.streamed.reading import Reads, forms_of
from hf_finetune.errors import DataError, first_line
from hf_finetune.files.bounded import read_json
from hf_finetune.files.cache import cache_root, holding, lock_of
from hf_finetune.files.whole_file import write_whole
from hf_finetune.network.patience import Patience, causes, may_pass, patiently
from hf_finetune.report.progress import Progress
from hf_finetune.types import Note
from hf_finetune.units import format_bytes

logger = logging.getLogger(__name__)

PATIENCE = Patience(tries=3)
FORMAT = 2
META, FILES = "meta.json", "files"
HOW = "each is fetched, read and removed, once for its labels and once to be decoded"
_BESIDE = (".txt", ".json", ".md")  # what may name the classes
_SEEN = ("name", "config", "image_column", "label_column", "split_column", "group_column")  # what decides on rows


def read_streamed(info: Any, shards: Sequence[str] | None, config: Data, local_hint: str) -> Source | None:
    """The dataset file by file, where its files do not fit the room for them; None where they do, or are there already.

    `info`: the Hub's, with sizes. `shards`: its tar shards, where it is read as such; else `datasets` reads it, which
    takes the room twice. Raises DataError.
    """
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    times = 2 if shards is None else 1
    limit = config.download_limit
    room = free_bytes(_hub_cache()) // 2 if limit is None else limit
    if times * sum(sizes.values()) <= room:
        return None
    files, forms = _files(info, shards, sizes, config, local_hint)
    if files == []:
        return None
    needed = times * sum(sizes.values() if files is None else (file.size for file in files))
    if files is None:
        if limit is None or needed <= room:
            return None
        raise DataError(
            f"data.download_limit: {config.name} takes {format_bytes(needed)} as `datasets` prepares it, found a limit "
            f"of {format_bytes(room)}, and its files cannot be fetched one by one (Parquet files and plain tar shards "
            "can)",
            "raise data.download_limit, or leave it out",
        )
    if needed <= room:
        return None
    beside = [name for name in sizes if PurePosixPath(name).suffix.lower() in _BESIDE and sizes[name] < 100_000_000]
    licence = getattr(info.card_data, "license", None)
    meta = {
        "format": FORMAT,
        "commit": info.sha,
        "licence": ", ".join(licence) if isinstance(licence, list) else licence,
        "files": [[file.name, file.split, file.size] for file in files],
        "forms": forms,
    }
    why = "data.download_limit" if limit is not None else "half of what is free"
    more = "" if shards is not None else "; datasets would need twice their size"
    text = (
        f"its {count(len(files), 'file')} of {format_bytes(sum(file.size for file in files))} do not fit in "
        f"{format_bytes(room)} ({why}{more})"
    )
    source = _read(config, meta, beside, local_hint, f"{config.name}: {text}, so that {HOW}")
    return replace(source, notes=(*source.notes, Note(f"read file by file: {text}")))


def read_listed(config: Data, commit: str) -> Source | None:
    """The dataset as an earlier run listed it whole, without asking the Hub; None where none did."""
    folder = _folder(config, commit)
    try:
        meta = read_json(folder / META)
        if meta["format"] != FORMAT or not (folder / JOURNAL).is_file():
            return None
        return _read(config, meta, None, "", "")
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _read(config: Data, meta: Mapping[str, Any], beside: Sequence[str] | None, local_hint: str, told: str) -> Source:
    """Lists what is not listed yet, which is `told`. `beside`: the small files that may name classes; None: nothing can
    be fetched."""
    commit = meta["commit"]
    folder = _folder(config, commit)
    every = [RemoteFile(*each) for each in meta["files"]]
    left_out = sorted({file.split for file in every if is_meant(file.split, config.ignore_splits)})
    files = [file for file in every if file.split not in left_out]
    if not files:
        raise DataError(f"data.ignore_splits: a split to read is expected in {config.name}, found none", "leave some")
    lock = lock_of(folder.parent, folder.name)
    fetch = partial(_fetch, config, commit, folder / FILES, local_hint) if beside is not None else _offline(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        limit = config.download_limit if config.download_limit is not None else free_bytes(folder) // 4
        came = _Came(sum(file.size for file in files), told)
        # Listing shows how the files come; later another bar is there.
        listing, fetcher = (
            Fetcher(folder / FILES, files, limit, each, lambda: holding(lock))
            for each in (partial(fetch, came=came.more), fetch)
        )
        with holding(lock), came.bar:
            if (folder / META).exists():
                os.utime(folder / META)  # its last use
            else:
                write_whole(folder / META, json.dumps(meta))
            reads = Reads(config, folder / FILES, fetch, beside or (), meta["forms"])
            listed = list_files(files, listing, reads, folder / JOURNAL, came.whole)
    except OSError as error:
        raise DataError(
            f"data.cache_dir: what the files of {config.name} hold is expected to be kept in {folder}: "
            f"{error.strerror or error}",
            "free some space there, or name another folder (data.cache_dir)",
        ) from error
    source = joined(config, files, listed, fetcher)
    tar = listed[0].column is None
    return replace(
        source,
        commit=commit,
        licence=meta["licence"],
        # As where all files are there, so that a run goes on either way.
        stamp=f"{config.name} {commit}" if tar else f"{config.name} {commit} {config.config}",
        left_out=dict.fromkeys(left_out, None),
    )


def _files(
    info: Any, shards: Sequence[str] | None, sizes: Mapping[str, int], config: Data, local_hint: str
) -> tuple[list[RemoteFile] | None, dict[str, Any]]:
    """The data files in order, by splits ([] where they lie in the Hub's cache, None where they cannot be read each by
    itself), and the forms of the dataset's columns as far as they are stated. Raises DataError."""
    if shards is not None:
        tars = sorted(name for name in shards if is_shard(name))
        if _all_cached(tars, info.sha, config):
            return [], {}
        return _safe([RemoteFile(name, split, sizes[name]) for name, split in splits_of_files(tars).items()]), {}
    import datasets
    import httpx2
    from datasets.exceptions import DatasetsError

    try:
        builder = datasets.load_dataset_builder(config.name, config.config, revision=info.sha)
    except (DatasetsError, ValueError, RuntimeError, OSError, httpx2.HTTPError) as error:
        raise explain(error, config, local_hint) from error
    if Path(builder.cache_dir).exists():
        return [], {}
    start = f"hf://datasets/{config.name}@{info.sha}/"
    found: list[RemoteFile] = []
    for split, addresses in (builder.config.data_files or {}).items():
        for address in map(str, addresses):
            name = address.removeprefix(start)
            if not address.startswith(start) or name not in sizes or not name.endswith(".parquet"):
                return None, {}
            found.append(RemoteFile(name, str(split), sizes[name]))
    twice = len({file.name for file in found}) < len(found)  # a file of two splits
    return None if twice or not found else _safe(found), forms_of(builder.info.features or {})


def _safe(files: list[RemoteFile]) -> list[RemoteFile]:
    """The same; raises DataError for a name that leads out of the folder that it is put into."""
    for file in files:
        parts = PurePosixPath(file.name).parts
        if ".." in parts or PurePosixPath(file.name).is_absolute() or "\\" in file.name or ":" in file.name:
            raise DataError(f"data.name: plain names of files are expected, found {file.name!r}", "do not use it")
    return files


def _all_cached(names: Sequence[str], commit: str, config: Data) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(
        isinstance(try_to_load_from_cache(config.name, name, revision=commit, repo_type="dataset"), str)
        for name in names
    )


class _Came:
    """How much of `total` bytes is there, on a bar, once it is `told` why."""

    def __init__(self, total: int, told: str) -> None:
        self._told = told
        self.bar = Progress("fetching", "megabyte", round(total / 1e6))
        self._bytes = 0

    def more(self, count: int) -> None:
        """`count` further bytes of a file on its way; the Hub's client says how many it goes on from, too."""
        self._bytes += count
        self.bar.to(round(self._bytes / 1e6))

    def whole(self, count: int) -> None:
        """The bytes of whole files, whatever was counted on their way."""
        if self._told:
            logger.info("%s", self._told)
            self._told = ""
        self._bytes = count
        self.bar.to(round(count / 1e6))


def _counting(came: Callable[[int], None]) -> type:
    """A bar of the Hub's client that shows nothing itself."""
    from tqdm import tqdm

    class Counting(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            came(int(n or 0))

    return Counting


def _fetch(
    config: Data, commit: str, folder: Path, local_hint: str, name: str, *, came: Callable[[int], None] | None = None
) -> None:
    """Puts one file into the folder, whole; `came` is called with the number of its bytes as they come. Raises
    DataError."""
    import httpx2
    from huggingface_hub import hf_hub_download

    bar = _counting(came or (lambda _: None))
    # Xet's client may keep 10 GB of what it fetched beside the files (xet-runtime 1.5.2, where not built otherwise).
    os.environ.setdefault("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0")
    place: dict[str, Any] = {"repo_type": "dataset", "revision": commit, "local_dir": folder}
    call = partial(hf_hub_download, config.name, name, **place, tqdm_class=bar)
    try:
        patiently(call, f"Fetching {name} of {config.name}", PATIENCE)
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise _explain(error, name, config, local_hint) from error


def _explain(error: BaseException, name: str, config: Data, local_hint: str) -> DataError:
    kept = "what was read and decoded is kept"
    what = f"data.name: {name} of {config.name} could not be fetched"
    if may_pass(error):
        return DataError(f"{what}: {first_line(error)}", f"try again later, or check the network: {kept}")
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes(error)):
        where = cache_root(Path(config.cache_dir).expanduser() if config.cache_dir else None)
        return DataError(
            f"{what}: no space is left in {where}",
            f"free some, lower data.download_limit, or set data.cache_dir to a larger disk; {kept}",
        )
    return explain(error, config, local_hint)


def _offline(config: Data) -> Any:
    def refuse(name: str, **_: Any) -> None:
        raise DataError(
            f"data.name: {name} of {config.name} is wanted again, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
        )

    return refuse


def _folder(config: Data, commit: str) -> Path:
    told = {"format": FORMAT, "commit": commit, **config.model_dump(mode="json", include=set(_SEEN))}
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
    return cache_root(Path(config.cache_dir).expanduser() if config.cache_dir else None) / key


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
