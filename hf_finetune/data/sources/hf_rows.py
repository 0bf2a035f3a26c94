"""Rows of `datasets.Dataset` objects, read from their Arrow tables without decoding an image.

Where a dataset is memory-mapped, its Arrow files are what worker processes read; an indices mapping (shuffle, select)
only changes the numbers of the rows. Anything else is kept as encoded bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.cells import group_id, raw_labels
from hf_finetune.data.sources.in_memory import keep
from hf_finetune.data.sources.naming import IN_MEMORY, refuse_unused
from hf_finetune.data.sources.parquet import kind_of
from hf_finetune.data.sources.readers import ArrowReader, open_arrow
from hf_finetune.data.sources.source import Source, SourceRejected, SourceRow, file_row
from hf_finetune.data.sources.split_names import is_meant, is_training, split_of_blanks
from hf_finetune.errors import DataError
from hf_finetune.types import Reader

COMPARED_ROWS = 16


@dataclass(frozen=True)
class _Part:
    """One split: its dataset, the image column's chunks, and the physical number of every row.

    `own_splits` is the split of every row, where a column says it. `columns` is what was chosen.
    """

    split: str
    dataset: Any
    column: Any  # pyarrow.ChunkedArray
    numbers: np.ndarray  # int64 [N]
    columns: columns.Columns
    own_splits: list[str] | None


def read_datasets(data: Any, config: Data, name: str | None = None, **facts: Any) -> Source:
    """The rows of a `Dataset`, or of a mapping of split name to `Dataset`. `facts` go into the `Source`.

    Raises DataError for anything else, and where columns cannot be told.
    """
    import datasets

    if name is None:
        refuse_unused(config, IN_MEMORY, "revision", "config")
    has_splits = isinstance(data, Mapping)
    parts_in = dict(data) if has_splits else {"train": data}
    for part in parts_in.values():
        if isinstance(part, datasets.IterableDataset):
            raise DataError(
                "data: a dataset with known rows is expected, found a streaming dataset",
                "load it without streaming=True",
            )
        if not isinstance(part, datasets.Dataset):
            raise DataError(
                f"data: a datasets.Dataset or DatasetDict, a torch dataset, a folder, or a list of (path, label) pairs "
                f"or paths is expected, found {type(part).__module__}.{type(part).__qualname__}",
                "save the images into class folders, or list their paths and labels",
            )
    left_out = {split: len(part) for split, part in parts_in.items() if is_meant(split, config.ignore_splits)}
    parts_in = {split: part for split, part in parts_in.items() if split not in left_out}
    if not parts_in:
        raise DataError("data: at least one split is expected, found an empty DatasetDict", "give a split to train on")
    name = name or IN_MEMORY
    parts, label_names = _parts(parts_in, config, name, has_splits=has_splits)
    reader, offsets = _reader(parts, config)
    splits: dict[str, list[SourceRow]] = {}
    rejected: list[SourceRejected] = []
    for part, offset in zip(parts, offsets, strict=True):
        rows = _rows(part, offset, isinstance(reader, ArrowReader))
        for split, row in zip(part.own_splits or [part.split] * len(part.numbers), rows, strict=True):
            found = splits.setdefault(split, [])
            if split and isinstance(row, SourceRow):
                found.append(row)
            elif isinstance(row, SourceRow):
                rejected.append(SourceRejected(row.name, "train", "no split"))
            else:
                rejected.append(SourceRejected(row[0], split, row[1]))
    if not splits.get("", True):
        del splits[""]
    stamp = "\n".join(f"{part.split} {part.dataset._fingerprint}" for part in parts)
    return Source(
        name=name,
        splits=splits,
        reader=reader,
        has_splits=has_splits or any(part.own_splits is not None for part in parts),
        label_names=label_names,
        rejected=tuple(rejected),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.columns.notes)),
        layout=parts[0].columns.described(),
        label_columns=parts[0].columns.labels,
        left_out=left_out,
        **{"stamp": stamp, **facts},
    )


def _parts(
    data: Mapping[str, Any], config: Data, name: str, *, has_splits: bool
) -> tuple[list[_Part], tuple[str, ...] | None]:
    import datasets

    parts: list[_Part] = []
    names: tuple[str, ...] | None = None
    for split, dataset in data.items():
        kinds: dict[str, columns.Kind] = {}
        for column, feature in dataset.features.items():
            if isinstance(feature, datasets.Image):
                kinds[column] = "image"
            elif isinstance(feature, datasets.ClassLabel):
                kinds[column] = "class"
            else:
                kind = kind_of(dataset.data.schema.field(column).type)
                kinds[column] = "other" if kind == "image" else kind
        trains = not has_splits or is_training(split, config.train_split)
        source = f"{name}, split {split}" if len(data) > 1 else name
        found = columns.find(kinds, config, source, _distinct(dataset), needs_label=trains)
        own_names = _class_names([dataset.features[name] for name in found.labels])
        if parts and found.labels and own_names != names:
            raise DataError(
                f"data.label_column: the same classes in the same order are expected in every split of {name}, "
                f"found others in {split}",
                f"cast column {found.labels[0]!r} of every split to one ClassLabel",
            )
        names = own_names if found.labels or not parts else names
        indices = dataset._indices
        numbers = np.arange(len(dataset)) if indices is None else indices.column(0).to_numpy().astype(np.int64)
        by_column = found.split is not None and (len(data) == 1 or config.split_column is not None)
        own = _own_splits(dataset, found.split) if by_column and found.split else None
        parts.append(_Part(split, dataset, dataset.data.column(found.image), numbers, found, own))
    return parts, names


def _class_names(features: Sequence[Any]) -> tuple[str, ...] | None:
    """The names of the one label column's ClassLabel, or of a list of such."""
    import datasets

    feature = features[0] if len(features) == 1 else None
    if isinstance(feature, datasets.List | datasets.LargeList):
        feature = feature.feature
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _own_splits(dataset: Any, column: str) -> list[str]:
    """The split of every row by a column; "" where it says none."""
    values = dataset.with_format(None)[column][:]
    blank = split_of_blanks(set(values))
    return [("" if value is None else str(value).strip()) or blank for value in values]


def _distinct(dataset: Any) -> columns.Values:
    return lambda column: dataset.data.column(column).unique().to_pylist()


def _reader(parts: Sequence[_Part], config: Data) -> tuple[Reader, list[int]]:
    """The reader of all parts, and what to add to each part's row numbers for it."""
    files: list[str] = []
    offsets: list[int] = []
    columns_found: set[str] = set()
    total = 0
    for part in parts:
        own = _arrow_files(part)
        if own is None:
            reader = keep((image for each in parts for image in _images(each)), config.cache_dir)
            return reader, list(np.cumsum([0, *(len(part.numbers) for part in parts)])[:-1].tolist())
        offsets.append(total)
        files += own[0]
        columns_found.add(own[1])
        total += len(part.column)
    if len(columns_found) > 1:
        raise DataError("data.image_column: one image column is expected in every split", "rename the columns alike")
    return ArrowReader(tuple(files), columns_found.pop()), offsets


def _arrow_files(part: _Part) -> tuple[list[str], str] | None:
    """The Arrow files that hold exactly this column, and its name there; None where they do not.

    They need not: a slice, a column joined in memory or a table that was replaced since shows the same file names.
    """
    import pyarrow as pa

    kind = part.column.type
    tables = {entry["filename"]: open_arrow(entry["filename"]) for entry in part.dataset.cache_files}
    tables = {path: table for path, table in tables.items() if kind in table.schema.types}
    if not tables or sum(table.num_rows for table in tables.values()) != len(part.column):
        return None
    for name in next(iter(tables.values())).column_names:
        if not all(name in table.column_names and table.schema.field(name).type == kind for table in tables.values()):
            continue
        stored = pa.chunked_array([chunk for table in tables.values() for chunk in table.column(name).chunks], kind)
        looked_at = np.unique(np.linspace(0, len(stored) - 1, COMPARED_ROWS).astype(int)).tolist()
        if all(stored[number] == part.column[number] for number in looked_at):
            return list(tables), name
    return None


def _images(part: _Part) -> Iterator[bytes]:
    for number in part.numbers.tolist():
        yield (part.column[number].as_py() or {}).get("bytes") or b""


def _rows(part: _Part, offset: int, physical: bool) -> Iterator[SourceRow | tuple[str, str]]:
    """The rows in the dataset's order, or (name, reason). `physical`: locators are row numbers of the Arrow files."""
    sizes = _sizes(part.column)
    rows = part.dataset.with_format(None)
    labels = list(zip(*(rows[name][:] for name in part.columns.labels), strict=True)) or [()] * len(part.numbers)
    cells = rows[part.columns.group][:] if part.columns.group else [None] * len(part.numbers)
    for place, number in enumerate(part.numbers.tolist()):
        name, group = f"{part.split} row {place}", group_id(cells[place])
        locator = offset + (number if physical else place)
        if sizes[number]:
            yield SourceRow(name, raw_labels(labels[place]), locator, int(sizes[number]), group=group)
            continue
        path = (part.column[number].as_py() or {}).get("path")
        if not path:
            yield name, "no image"
            continue
        try:
            stat = Path(path).stat()
        except (OSError, ValueError):
            yield f"{name} ({path})", "file not found"
            continue
        shown, label = f"{name} ({Path(path).name})", raw_labels(labels[place])
        yield file_row(shown, label, path, stat, group)


def _sizes(column: Any) -> np.ndarray:
    """Bytes of every encoded image, 0 where there is none; reads no image of a memory-mapped column."""
    import pyarrow.compute as pc

    sizes = [np.zeros(0, dtype=np.int64)]
    for chunk in column.chunks:
        data = pc.call_function("struct_field", [chunk], pc.StructFieldOptions("bytes"))
        lengths = pc.fill_null(pc.call_function("binary_length", [data]), 0)
        sizes.append(np.asarray(lengths).astype(np.int64))
    return np.concatenate(sizes)
