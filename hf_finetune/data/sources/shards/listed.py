"""Which files are the shards: a tar, a folder of them, or a pattern with braces (`train-{000000..000012}.tar`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.naming import BRACES, refuse_unused
from hf_finetune.data.sources.shards.shards import read_shards
from hf_finetune.data.sources.source import Source, listing
from hf_finetune.errors import DataError

MOST_SHARDS = 100_000
_RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
_UNUSED = ("class_level", "image_folder")


def read_pattern(pattern: str, config: Data) -> Source:
    """The rows of the shards that a pattern names. Raises DataError, also where one of them is not there."""
    paths = [Path(each) for each in _expanded(os.path.expanduser(pattern))]  # noqa: PTH111 (braces are no path)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"data.name: the {len(paths):,} shards of {pattern} are expected, found {len(paths) - len(missing):,} of "
            f"them; not there: {listing(missing)}",
            "change the range in the braces, or get the others",
        )
    refuse_unused(config, pattern, "revision", "config")
    return read_files(paths, Path(os.path.commonpath([path.absolute().parent for path in paths])), config, pattern)


def read_file(path: Path, config: Data) -> Source:
    """The rows of one shard, whatever split its name may say, as of any one file. Raises DataError."""
    _refuse(config, str(path))
    return read_shards([path], path.absolute().parent, config, name=str(path), has_splits=False)


def read_files(paths: Sequence[Path], root: Path, config: Data, name: str) -> Source:
    """The rows of these shards below `root`, which are on this machine. Raises DataError."""
    _refuse(config, name)
    return read_shards(paths, root, config, name=name)


def _refuse(config: Data, name: str) -> None:
    refuse_unused(config, f"{name} (tar shards)", *_UNUSED)


def _expanded(pattern: str) -> list[str]:
    """Every name that braces stand for: `{000..012}` counts, with the first number's zeros; `{train,val}` is either.

    Raises DataError.
    """
    found: list[str] = []
    for name in _expand(pattern):
        found.append(name)
        if len(found) > MOST_SHARDS:
            raise _wrong(pattern, f"more than {MOST_SHARDS:,} shards")
    return found


def _expand(pattern: str) -> Iterator[str]:
    braces = BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    before, behind = pattern[: braces.start()], pattern[braces.end() :]
    for choice in _choices(braces[1], pattern):
        for rest in _expand(behind):
            yield before + choice + rest


def _choices(inside: str, pattern: str) -> Iterator[str]:
    counted = _RANGE.fullmatch(inside)
    if counted is None:
        if "," not in inside:
            raise _wrong(pattern, f"{{{inside}}}")
        yield from inside.split(",")
        return
    first, last = int(counted[1]), int(counted[2])
    if first > last:
        raise _wrong(pattern, f"{{{inside}}}")
    yield from (str(number).zfill(len(counted[1])) for number in range(first, last + 1))


def _wrong(pattern: str, found: str) -> DataError:
    return DataError(
        f"data.name: a range or a choice in braces is expected in {pattern}, found {found}",
        "write it as train-{000000..000012}.tar, or {train,val}-{000..012}.tar",
    )
