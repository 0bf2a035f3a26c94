"""Parquet tables whose image column holds encoded bytes or paths, as one file or as a folder in the Hub's layout.

Streams over the image column once, a piece at a time, for sizes and tail digests; images are never all in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.card_facts import card_classes
from hf_finetune.data.sources.cells import group_id, locate, name_below, raw_labels
from hf_finetune.data.sources.readers import GROUP_LIMIT_BYTES, ParquetReader, group_batch_rows
from hf_finetune.data.sources.source import (
    RawLabel,
    Source,
    SourceRejected,
    SourceRow,
    count,
    file_row,
    listing,
    tail_digest,
    touched_ns,
)
from hf_finetune.data.sources.split_names import is_meant, is_training, split_of, split_of_blanks, splits_of_files
from hf_finetune.errors import DataError
from hf_finetune.types import Note
from hf_finetune.units import format_bytes


def read_parquet(
    files: Mapping[str, Sequence[Path]],
    root: Path,
    config: Data,
    *,
    name: str,
    has_splits: bool = True,
    class_lists: Mapping[str, tuple[str, ...]] | None = None,
    alone: bool = False,
) -> Source:
    """The rows of Parquet files by the split that each belongs to. Raises DataError.

    `class_lists` are class names by column, for a column of numbers whose file does not name them. `alone`: each file
    is read by itself. No image that is a file of its own belongs to it, no column is taken for splits that the recipe
    does not name, and a blank there is no split.
    """
    kept = {split: paths for split, paths in files.items() if not is_meant(split, config.ignore_splits)}
    flat = [(split, path.absolute()) for split, paths in kept.items() for path in paths]
    gathered = _Gathered({split: [] for split in kept})
    notes: list[Note] = []
    stats: list[os.stat_result] = []
    agreed: Chosen | None = None
    first = 0
    for split, path in flat:
        table = _open(path)
        trains = is_training(split, config.train_split)
        chosen = _choose(table, path, config, class_lists or {}, trains=trains, alone=alone)
        agreed = chosen if agreed is None else _agree(agreed, chosen, path, flat[0][1])
        notes += [note for note in chosen[0].notes if note not in notes]
        notes += _large_groups(table, path, chosen[0].image)
        stats.append(path.stat())  # before it is read, so that one that changes meanwhile is another the next time
        for own_split, row in _rows(table, path, root, chosen[0], first, alone=alone):
            gathered.add(row, own_split if own_split is not None else split)
        first += table.metadata.num_rows
        has_splits |= chosen[0].split is not None
    if agreed is None:
        raise DataError(f"data.name: Parquet files are expected in {name}, found none", "check data.name")
    found, label_names = agreed
    left_out = {split: paths for split, paths in files.items() if split not in kept}
    names = [name_below(str(root), str(path)) for _, path in flat]
    return Source(
        name=name,
        splits={split: rows for split, rows in gathered.splits.items() if rows or (split in kept and not found.split)},
        reader=ParquetReader(tuple(str(path) for _, path in flat), found.image),
        has_splits=has_splits,
        label_names=label_names,
        rejected=tuple(gathered.rejected),
        notes=tuple(notes),
        stamp="\n".join(f"{n} {stat.st_size} {stat.st_mtime_ns}" for n, stat in zip(names, stats, strict=True)),
        layout=f"{count(len(flat), 'Parquet file')}: {found.described()}",
        label_columns=found.labels,
        left_out={split: sum(_open(path).metadata.num_rows for path in paths) for split, paths in left_out.items()},
        touched_ns=max(map(touched_ns, stats)),
    )


@dataclass
class _Gathered:
    """The rows of the files so far, by split, and those that cannot be used."""

    splits: dict[str, list[SourceRow]]
    rejected: list[SourceRejected] = field(default_factory=list)

    def add(self, row: SourceRow | tuple[str, str], split: str) -> None:
        """A row, or (name, reason)."""
        there = self.splits.setdefault(split, [])
        if isinstance(row, SourceRow):
            there.append(row)
        else:
            self.rejected.append(SourceRejected(row[0], split, row[1]))


def _open(path: Path) -> Any:
    """The file, not read yet. Raises DataError where it is no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"data.name: a Parquet file is expected, found {path}: {error}", "write it again") from error


Chosen = tuple[columns.Columns, tuple[str, ...] | None]  # with the class names of the label column


def _choose(
    table: Any, path: Path, config: Data, class_lists: Mapping[str, tuple[str, ...]], *, trains: bool, alone: bool
) -> Chosen:
    """The columns of one file. Raises DataError."""
    names, kinds = _schema(table.schema_arrow)
    chosen = columns.find(kinds, config, str(path), _distinct(table), needs_label=trains, guess_split=not alone)
    label = chosen.labels[0] if len(chosen.labels) == 1 else ""
    return chosen, names.get(label) or (class_lists.get(label) if kinds.get(label) in ("whole", "list") else None)


def _agree(found: Chosen, chosen: Chosen, path: Path, first: Path) -> Chosen:
    """What holds for the files before and the one at `path`. Raises DataError unless they can be one dataset."""
    if not _alike(chosen, found):
        raise DataError(
            f"data.name: the same columns and classes are expected in every file, found others in {path}",
            f"write it with the columns of {first.name}, or leave its split out by data.ignore_splits",
        )
    return chosen if chosen[0].labels else found


def _alike(one: Chosen, other: Chosen) -> bool:
    """Whether two files can be one dataset; one that has no labels says nothing of them."""
    if (one[0].image, one[0].split) != (other[0].image, other[0].split):
        return False
    if not one[0].labels or not other[0].labels:
        return True
    return (one[0].labels, one[1]) == (other[0].labels, other[1])


def values_of(path: Path, most: int) -> tuple[dict[str, columns.Kind], dict[str, list[Any]]]:
    """The kind of each column of a file, and of those that may say splits their values, `most` of each."""
    table = _open(path)
    kinds = _schema(table.schema_arrow)[1]
    few = {name for name, kind in kinds.items() if kind in ("text", "whole", "class")}
    return kinds, {name: list(_distinct(table)(name))[:most] for name in few}


def holds_images(path: Path) -> bool:
    """Whether a Parquet file has a column of encoded images. Raises DataError where it is no Parquet file."""
    return "image" in _schema(_open(path).schema_arrow)[1].values()


def _distinct(table: Any) -> columns.Values:
    return lambda column: table.read(columns=[column]).column(0).unique().to_pylist()


def read_parquet_folder(root: Path, names: Sequence[str], config: Data) -> Source:
    """Parquet files below `root`, their split told by file name (`train-00000-of-00001`) or folder, or `data.config`.

    Raises DataError where several configurations are there and none is named.
    """
    by_config: dict[str, dict[str, list[Path]]] = {}
    for name, split in splits_of_files(names).items():
        own = [part for part in name.split("/")[:-1] if part != "data" and split_of(part) is None]
        by_config.setdefault("/".join(own) or "default", {}).setdefault(split, []).append(root / name)
    if config.config is None and len(by_config) > 1:
        raise DataError(
            f"data.config: one configuration is expected in {root}, found {listing(by_config, 20)}",
            "set data.config to one of these",
        )
    wanted = config.config or next(iter(by_config))
    if wanted not in by_config:
        raise DataError(
            f"data.config: {root} has no configuration {wanted!r}, found {listing(by_config, 20)}",
            "set data.config to one of these" if len(by_config) > 1 else "leave data.config out",
        )
    files = by_config[wanted]
    return read_parquet(
        files,
        root,
        config,
        name=str(root),
        has_splits=len(files) > 1 or "train" not in files,
        class_lists=card_classes(root, wanted),
    )


def read_small_table(path: Path) -> list[dict[str, Any]]:
    """A Parquet table of paths and labels, read whole. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"data.name: a Parquet file is expected, found {path}: {error}", "write it again") from error


def class_names(feature: object) -> tuple[str, ...] | None:
    """The names of a ClassLabel as `datasets` writes it into a schema's metadata; None for any other feature."""
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return tuple(str(name) for name in feature["names"])
    return None


def kind_of(type_: Any) -> columns.Kind:
    """What a column of an Arrow type may be used for."""
    import pyarrow as pa

    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_struct(value):
        fields = {value.field(number).name for number in range(value.num_fields)}
        return "image" if "bytes" in fields else "other"
    if pa.types.is_binary(value) or pa.types.is_large_binary(value):
        return "image"
    if pa.types.is_string(value) or pa.types.is_large_string(value):
        return "text"
    if pa.types.is_integer(value) or pa.types.is_boolean(value):
        return "whole"
    if pa.types.is_floating(value):
        return "number"
    if pa.types.is_list(value) or pa.types.is_large_list(value) or pa.types.is_fixed_size_list(value):
        return "list" if kind_of(value.value_type) in ("text", "whole", "number") else "other"
    return "other"


def _schema(schema: Any) -> tuple[dict[str, tuple[str, ...]], dict[str, columns.Kind]]:
    """ClassLabel names by column, and the kind of each column."""
    raw = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(raw).get("info", {}).get("features", {}) if raw else {}
    names = {name: found for name, feature in features.items() if (found := class_names(feature)) is not None}
    kinds: dict[str, columns.Kind] = {}
    for column in schema:
        kinds[column.name] = "class" if column.name in names else kind_of(column.type)
    return names, kinds


def _rows(
    table: Any, path: Path, root: Path, found: columns.Columns, first: int, *, alone: bool
) -> Iterator[tuple[str | None, SourceRow | tuple[str, str]]]:
    """(own split, row or (name, reason)) for every row of one file; `first` is its first row's number over all."""
    columns_used = dict.fromkeys((found.image, *found.labels, found.split, found.group))
    wanted = [name for name in columns_used if name is not None]
    file_name = name_below(str(root), str(path))
    blank = split_of_blanks(_distinct(table)(found.split)) if found.split and not alone else ""
    number = 0
    for group in range(table.metadata.num_row_groups):
        rows = group_batch_rows(table.metadata.row_group(group), found.image)[0]
        for batch in table.iter_batches(batch_size=rows, row_groups=[group], columns=wanted):
            columns_read = [batch.column(name).to_pylist() for name in found.labels]
            labels = list(zip(*columns_read, strict=True)) if columns_read else [()] * batch.num_rows
            own = batch.column(found.split).to_pylist() if found.split else [None] * len(labels)
            groups = batch.column(found.group).to_pylist() if found.group else [None] * len(labels)
            for image, label, split, group in zip(batch.column(found.image), labels, own, groups, strict=True):
                name = f"{file_name} row {number}"
                where = None if found.split is None else ("" if split is None else str(split).strip()) or blank
                if where == "":
                    yield "train", (name, "no split")
                else:
                    row = _row(image.as_py(), raw_labels(label), name, path, None if alone else root, first + number)
                    yield (
                        where,
                        replace(row, group=group_id(group)) if isinstance(row, SourceRow) and found.group else row,
                    )
                number += 1


def _row(
    image: Any, label: RawLabel, name: str, path: Path, root: Path | None, number: int
) -> SourceRow | tuple[str, str]:
    data = image.get("bytes") if isinstance(image, dict) else image
    if isinstance(data, bytes) and data:
        return SourceRow(name, label, number, len(data), 0, tail_digest(data))
    linked = image.get("path") if isinstance(image, dict) else image
    if not isinstance(linked, str) or not linked.strip():
        return name, "no image"
    if root is None:
        return f"{name} ({linked})", "its image is a file of its own, which is not fetched"
    file = locate(linked, path.parent)
    try:
        stat = os.stat(file)  # noqa: PTH116
    except (OSError, ValueError):
        return f"{name} ({linked})", "file not found"
    return file_row(name_below(str(root), file), label, file, stat)


def _large_groups(table: Any, path: Path, column: str) -> list[Note]:
    sizes = [group_batch_rows(table.metadata.row_group(n), column)[1] for n in range(table.metadata.num_row_groups)]
    large = [size for size in sizes if size > GROUP_LIMIT_BYTES]
    if not large:
        return []
    text = (
        f"a Parquet file has {count(len(large), 'row group')} of up to {format_bytes(max(large))}, fast in order only; "
        f"for reading in random order write it with about {format_bytes(GROUP_LIMIT_BYTES)} a row group"
    )
    return [Note(text, path.name)]
