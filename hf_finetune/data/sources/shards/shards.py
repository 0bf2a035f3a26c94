"""Datasets in tar shards, as webdataset writes them: which cells are labels, which shard is of which split, the rows.

Headers and labels are read through once; images stay where they are. Owns the rows; `samples` reads a shard, `listed`
says which files are the shards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.cells import group_id, name_below, raw_labels
from hf_finetune.data.sources.readers import ShardReader, shard_locator
from hf_finetune.data.sources.shards.class_names import class_names_beside
from hf_finetune.data.sources.shards.members import Damage, open_shard
from hf_finetune.data.sources.shards.samples import (
    Sample,
    Wanted,
    first_samples,
    image_of,
    read_samples,
)
from hf_finetune.data.sources.source import (
    TAIL_BYTES,
    Source,
    SourceRejected,
    SourceRow,
    count,
    listing,
    plain,
    tail_digest,
    touched_ns,
)
from hf_finetune.data.sources.split_names import is_meant, splits_of_files
from hf_finetune.errors import DataError
from hf_finetune.types import Note

CLASS_ENDING = "cls"  # what webdataset calls a class
LOOKED_AT_SHARDS, LOOKED_AT_SAMPLES = 32, 100  # that tell what the members hold
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True)
class _Chosen:
    """Which cells are what, and the ending of images where there may be several in a sample."""

    columns: columns.Columns
    image: str | None
    wanted: Wanted
    class_names: tuple[str, ...] | None


@dataclass
class _Found:
    """What the shards gave so far."""

    splits: dict[str, list[SourceRow]] = field(default_factory=dict)
    rejected: list[SourceRejected] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def read_shards(
    paths: Sequence[Path], root: Path, config: Data, *, name: str, has_splits: bool = True, alone: bool = False
) -> Source:
    """The rows of tar shards; row names are below `root`. Without `has_splits` their own names say no split. `alone`:
    they are not all of a dataset, so that no key is taken for splits that the recipe does not name.

    Raises DataError, also for compressed shards.
    """
    try:
        return _read(paths, root, config, name, has_splits=has_splits, alone=alone)
    except OSError as error:
        raise DataError(
            f"data.name: tar shards that can be read are expected in {name}, found {error.filename or 'one'}: "
            f"{error.strerror or error}",
            "check its permissions and the disk, or get it again",
        ) from error


def _read(paths: Sequence[Path], root: Path, config: Data, name: str, *, has_splits: bool, alone: bool) -> Source:
    paths = [path.absolute() for path in paths]
    names = [name_below(str(root), str(path)) for path in paths]
    split_of_file = splits_of_files(names) if has_splits else dict.fromkeys(names, "train")
    kept = [number for number, file in enumerate(names) if not is_meant(split_of_file[file], config.ignore_splits)]
    if not kept:
        raise DataError(f"data.name: tar shards are expected in {name}, found none", "check data.name")
    chosen = _choose([paths[number] for number in kept], root, config, name, guess_split=not alone)
    found = _Found()
    left_out: Counter[str] = Counter()
    for number, path in enumerate(paths):
        split = split_of_file[names[number]]
        if number not in kept:
            left_out[split] += sum(isinstance(each, Sample) for each in read_samples(path, Wanted()))
            continue
        found.splits.setdefault(split, [])
        _add_shard(found, path, names[number], number, split, chosen)
    by_column = chosen.columns.split is not None
    stats = [path.stat() for path in paths]
    return Source(
        name=name,
        splits={split: rows for split, rows in found.splits.items() if rows or not by_column},
        reader=ShardReader(tuple(map(str, paths))),
        has_splits=by_column or set(split_of_file.values()) != {"train"},
        label_names=chosen.class_names,
        rejected=tuple(found.rejected),
        notes=(*chosen.columns.notes, *_notes(found)),
        stamp="\n".join(f"{n} {stat.st_size} {stat.st_mtime_ns}" for n, stat in zip(names, stats, strict=True)),
        layout=f"{count(len(kept), 'tar shard')}: {chosen.columns.described()}",
        label_columns=chosen.columns.labels,
        left_out=left_out,
        touched_ns=max(map(touched_ns, stats), default=0),
    )


def _choose(paths: Sequence[Path], root: Path, config: Data, name: str, *, guess_split: bool) -> _Chosen:
    """By the first samples of some shards. Raises DataError where images or labels cannot be told."""
    step = max(1, len(paths) // LOOKED_AT_SHARDS)
    samples = [sample for path in paths[::step] for sample in first_samples(path, LOOKED_AT_SAMPLES)]
    cells: dict[str, list[Any]] = {}
    for sample in samples:
        for column, value in sample.cells.items():
            cells.setdefault(column, []).append(value)
    kinds: dict[str, columns.Kind] = dict.fromkeys(_image_columns(samples, config), "image")
    if not kinds:
        endings = Counter(f".{ending}" for sample in samples for ending in sample.endings)
        raise DataError(
            f"data.name: images are expected in the shards of {name}, found "
            + (f"members ending in {listing(endings)}" if endings else "no sample"),
            "a sample is files of one name, such as 0001.jpg and 0001.cls; the image is known by its ending",
        )
    kinds |= {column: _kind(values) for column, values in cells.items() if column not in kinds}
    if len(set(kinds.values())) == 1 and config.label_column is None:
        raise _without_labels(samples, name)
    asked = config
    if config.label_column is None and CLASS_ENDING in kinds:
        asked = config.model_copy(update={"label_column": CLASS_ENDING})
    texts: columns.Values = lambda column: dict.fromkeys(map(str, cells.get(column, ())))  # noqa: E731
    found = columns.find(kinds, asked, name, texts, guess_split=guess_split)
    used = [*found.labels, *(each for each in (found.split, found.group) if each is not None)]
    endings = frozenset(ending for sample in samples for ending in sample.endings if ending in used)
    wanted = Wanted(endings, frozenset(used) - endings)
    label = found.labels[0] if len(found.labels) == 1 and kinds[found.labels[0]] == "whole" else None
    classes = None if label is None else class_names_beside(paths[0].parent, root, label, config)
    return _Chosen(found, found.image if config.image_column is not None else None, wanted, classes)


def values_of(path: Path, most: int) -> tuple[dict[str, columns.Kind], dict[str, list[Any]]]:
    """The kind of each cell of a shard's first samples, and the values of each, `most` of them."""
    cells: dict[str, list[Any]] = {}
    for sample in first_samples(path, LOOKED_AT_SAMPLES):
        for column, value in sample.cells.items():
            cells.setdefault(column, []).append(value)
    values: dict[str, list[Any]] = {
        column: list(dict.fromkeys(map(str, found)))[:most] for column, found in cells.items()
    }
    return {column: _kind(found) for column, found in cells.items()}, values


def _image_columns(samples: Sequence[Sample], config: Data) -> list[str]:
    """The endings that are chosen among: all of them, or the most usual one where each sample has its one image."""
    endings = Counter(ending for sample in samples for ending in sample.images)
    several = sum(len(sample.images) > 1 for sample in samples)
    if config.image_column is not None or 2 * several > len(samples):
        return list(endings)
    return [ending for ending, _ in endings.most_common(1)]


def _kind(values: Sequence[Any]) -> columns.Kind:
    values = [value for value in values if value is not None]
    if values and all(isinstance(value, list) for value in values):
        return "list" if all(isinstance(each, str | int) for value in values for each in value) else "other"
    if all(isinstance(value, int) or (isinstance(value, float) and value.is_integer()) for value in values):
        return "whole"
    if all(isinstance(value, str) for value in values):
        return "whole" if all(_WHOLE.fullmatch(value) for value in values) else "text"
    return "number" if all(isinstance(value, int | float) for value in values) else "other"


def _without_labels(samples: Sequence[Sample], name: str) -> DataError:
    folders = sorted({sample.key.rpartition("/")[0] for sample in samples} - {"", "."})
    lie = f", in folders {listing(folders)}" if folders else ""
    return DataError(
        f"data.label_column: a label beside each image is expected in the shards of {name} (a member .cls, .txt or "
        f".json of the image's name), found images alone{lie}",
        "if the folders are the classes, unpack the shards into one folder and set data.name to it"
        if folders
        else "write the shards with labels, or unpack them and describe the images by a table",
    )


def _add_shard(found: _Found, path: Path, name: str, number: int, split: str, chosen: _Chosen) -> None:
    """The rows of one shard, and what of it cannot be used."""
    with open_shard(path) as file:
        for each in read_samples(path, chosen.wanted):
            if isinstance(each, Damage):
                found.damaged.append(f"{name} at byte {each.offset:,}")
                found.rejected.append(SourceRejected(plain(name), split, f"{each.reason} at byte {each.offset:,}"))
            elif isinstance(each, str):
                found.others[plain(each)] += 1
            elif not each.images and not each.cells and not each.fault:
                found.others[plain(f"{each.key}.{each.endings[0]}")] += 1
            else:
                own = split if chosen.columns.split is None else _text(each.cells.get(chosen.columns.split))
                row = _row(each, file, name, number, chosen) if own else (f"{name}/{each.key}", "no split")
                if isinstance(row, SourceRow):
                    found.splits.setdefault(own, []).append(row)
                else:
                    found.rejected.append(SourceRejected(plain(row[0]), own or "train", row[1]))


def _row(sample: Sample, file: BinaryIO, name: str, number: int, chosen: _Chosen) -> SourceRow | tuple[str, str]:
    """The row, or (name, reason) where it cannot be used. `file`: the shard `name`, the `number`-th."""
    shown = f"{name}/{sample.key}"
    image = image_of(sample, chosen.image)
    if isinstance(image, str) or sample.fault:
        return shown, sample.fault or str(image)
    tail = min(image.size, TAIL_BYTES)
    file.seek(image.offset + image.size - tail)
    ending = next(ending for ending, member in sample.images.items() if member is image)
    return SourceRow(
        plain(f"{shown}.{ending}"),
        raw_labels([_cell(sample, column, chosen) for column in chosen.columns.labels]),
        shard_locator(number, image.offset, image.size),
        image.size,
        tail=tail_digest(file.read(tail)),
        group=group_id(sample.cells.get(chosen.columns.group)) if chosen.columns.group else None,
    )


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _cell(sample: Sample, column: str, chosen: _Chosen) -> Any:
    """A label's cell; a class number as such where the classes have names by number."""
    cell = sample.cells.get(column)
    if chosen.class_names is not None and isinstance(cell, str) and _WHOLE.fullmatch(cell):
        return int(cell)
    return cell


def _notes(found: _Found) -> Iterator[Note]:
    if found.damaged:
        text = f"{count(len(found.damaged), 'damaged place')} in tar shards, behind which samples may be lost"
        yield Note(f"{text}: get the shards again", listing(found.damaged))
    if found.others:
        text = f"{count(found.others.total(), 'file')} ignored in the shards that belong to no image"
        yield Note(text, listing(found.others))
