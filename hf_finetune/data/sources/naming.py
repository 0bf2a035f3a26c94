"""What `data.name` may mean, what counts as an image file, and which fields mean nothing for what it names."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import listing
from hf_finetune.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")  # compressed ones are refused, by name
BRACES = re.compile(r"\{([^{}]*)\}")
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".avif",
        ".heic",
        ".heif",
    )
)
TABLE_FIELDS = ("image_column", "label_column", "split_column", "group_column", "image_folder")  # of the section `data`
IN_MEMORY = "a dataset in memory"  # as a source's name; LIST_IN_MEMORY likewise
LIST_IN_MEMORY = "a list of {:,} images"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def looks_like_path(name: str) -> bool:
    """Whether a name can only be meant as a local path, never as a Hub id."""
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
        or Path(name).suffix.lower() in (*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES)
    )


def is_shard(name: str) -> bool:
    """Whether a file is a tar shard by its name, compressed or not."""
    return name.lower().endswith(SHARD_SUFFIXES)


def is_pattern(name: str) -> bool:
    """Whether `data.name` names tar shards by braces (`train-{000..012}.tar`)."""
    return is_shard(name) and BRACES.search(name) is not None


def was_in_memory(name: str) -> bool:
    """Whether a source's name says that a program handed the data over."""
    return name == IN_MEMORY or name.startswith(LIST_IN_MEMORY.partition("{")[0])


def missing_path_hint(path: Path, *, close_only: bool = False) -> str:
    """Names the siblings that a missing path may have meant, else how far the path does exist (or nothing)."""
    parent = path.absolute().parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    try:
        siblings = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    except OSError:
        return f"{parent} exists but cannot be listed"
    folded = {name.casefold(): name for name in reversed(siblings)}
    close = difflib.get_close_matches(path.name.casefold(), list(folded), n=3, cutoff=0.6)
    if close_only and not close:
        return ""
    if close:
        return f"did you mean {' or '.join(str(parent / folded[name]) for name in close)}?"
    return f"{parent} exists and holds {listing(siblings) or 'nothing'}"


def refuse_unused(config: Data, source: str, *fields: str) -> None:
    """Raises DataError where a field is set that means nothing for this kind of source."""
    if unused := [field for field in fields if getattr(config, field) not in (None, ())]:
        raise DataError(
            f"data.{unused[0]}: {source} has no {unused[0].replace('_', ' ')}, found {getattr(config, unused[0])!r}",
            "data.group_pattern tells groups by the rows' names"
            if unused[0] == "group_column"
            else f"leave data.{unused[0]} out, or set it to null",
        )
