"""The samples of a shard: members that share a name up to its first dot, the image's place, and the cells of labels.

The format is webdataset's (github.com/webdataset/webdataset, "The WebDataset Format"): the folder and the name up to
the first dot of the last part are a sample's key, what follows is the ending. Members need not stand side by side here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO

from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.data.sources.shards.members import Damage, Member, open_shard, read_members
from hf_finetune.data.sources.source import listing, plain

MOST_CELL_BYTES = 1_000_000  # of a text or a JSON member
MOST_IMAGE_BYTES = 1_000_000_000  # encoded; data.max_pixels is what bounds the decoded image
JSON_ENDING = "json"
_KEYED = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """What of the samples' texts is read: members by their endings, and keys of the JSON member."""

    endings: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()


@dataclass(slots=True)
class Sample:
    """`images`: the place of each image by its ending. `cells`: of its texts and its JSON, as far as they are wanted.
    `endings`: of all its members. `fault`: why it cannot be used, the first that was found."""

    key: str
    images: dict[str, Member] = field(default_factory=dict)
    cells: dict[str, Any] = field(default_factory=dict)
    endings: list[str] = field(default_factory=list)
    fault: str = ""


def key_and_ending(name: str) -> tuple[str, str] | None:
    """`cats/0001` and `seg.png` of `cats/0001.seg.png`; None for a member of no sample: a hidden file, one without an
    ending, and what webdataset itself writes beside samples (`__….`)."""
    found = _KEYED.fullmatch(name)
    if found is None or found[1].rpartition("/")[2].startswith("__"):
        return None
    return found[1], found[2].lower()


def is_image(ending: str) -> bool:
    """Whether a member of this ending is an image: by what follows its last dot."""
    return "." + ending.rpartition(".")[2] in IMAGE_SUFFIXES


def read_samples(path: Path, wanted: Wanted) -> Iterator[Sample | Damage | str]:
    """The samples of one shard, then its damages and the names of no sample. Raises OSError, DataError.

    A sample that has all that is wanted is given as soon as another begins, so that a shard of a million samples is not
    held in memory; the others wait for members that stand elsewhere in the shard, and come at its end.
    """
    waiting: dict[str, Sample] = {}
    others: list[Damage | str] = []
    last = ""
    with open_shard(path) as file:
        for member in read_members(path):
            if isinstance(member, Damage):
                others.append(member)
                continue
            if (keyed := key_and_ending(member.name)) is None:
                others.append(member.name)
                continue
            key, ending = keyed
            if key != last and last in waiting and _has_all(waiting[last], wanted):
                yield waiting.pop(last)
            last = key
            if key not in waiting:
                waiting[key] = Sample(key)
            _add(waiting[key], ending, member, file, wanted)
    yield from waiting.values()
    yield from others


def _has_all(sample: Sample, wanted: Wanted) -> bool:
    texts = wanted.endings | {JSON_ENDING} if wanted.keys else wanted.endings
    return bool(sample.images) and texts.issubset(sample.endings)


def first_samples(path: Path, most: int) -> list[Sample]:
    """The first samples of one shard with all their cells. Raises OSError, DataError."""
    samples: dict[str, Sample] = {}
    stands_apart = False  # all images come first, and all labels behind them
    with open_shard(path) as file:
        for member in read_members(path):
            if isinstance(member, Damage) or (keyed := key_and_ending(member.name)) is None:
                continue
            if keyed[0] not in samples and len(samples) == most:
                stands_apart = stands_apart or 2 * sum(len(each.endings) > 1 for each in samples.values()) < most
                if not stands_apart:
                    break
                continue
            _add(samples.setdefault(keyed[0], Sample(keyed[0])), keyed[1], member, file, None)
    return list(samples.values())


def _add(sample: Sample, ending: str, member: Member, file: BinaryIO, wanted: Wanted | None) -> None:
    if ending in sample.endings:
        sample.fault = sample.fault or f"two members .{ending}"
        return
    sample.endings.append(ending)
    if is_image(ending):
        sample.images[ending] = member
        return
    if wanted is not None and ending not in wanted.endings and not (ending == JSON_ENDING and wanted.keys):
        return
    try:
        sample.cells.update(_cells(ending, member, file, wanted))
    except (OSError, ValueError) as error:
        if wanted is not None:
            sample.fault = sample.fault or f"its .{ending} cannot be used: {error}"


def _cells(ending: str, member: Member, file: BinaryIO, wanted: Wanted | None) -> Mapping[str, Any]:
    """The columns that a text or JSON member holds. Raises OSError, and ValueError saying why it cannot be read."""
    if member.fault:
        raise ValueError(member.fault)
    if member.size > MOST_CELL_BYTES:
        raise ValueError(f"{member.size:,} bytes are more than the {MOST_CELL_BYTES:,} that are read")
    file.seek(member.offset)
    data = file.read(member.size)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    if ending != JSON_ENDING:
        if "\0" in text:
            raise ValueError("it is no text")
        return {ending: intern(plain(text.strip()))}  # a class stands in many samples
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"an object is expected, found {type(found).__name__}")
    return {key: value for key, value in found.items() if wanted is None or key in wanted.keys}


def image_of(sample: Sample, ending: str | None) -> Member | str:
    """The image of a sample, by its ending where the recipe names one; or why there is none."""
    if ending is not None:
        found = sample.images.get(ending)
        if found is None:
            return f"no member .{ending} among {listing(f'.{each}' for each in sample.endings)}"
    elif len(sample.images) == 1:
        found = next(iter(sample.images.values()))
    elif not sample.images:
        return f"no image among {listing(f'.{each}' for each in sample.endings)}"
    else:
        several = " and ".join(f".{each}" for each in sample.images)
        return f"several images, {several}: data.image_column names the ending to use"
    if found.fault:
        return f"its image is {found.fault}"
    if found.size > MOST_IMAGE_BYTES:
        return f"its image has {found.size:,} bytes, more than the {MOST_IMAGE_BYTES:,} that are read"
    return found
