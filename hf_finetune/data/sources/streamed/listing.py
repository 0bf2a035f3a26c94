"""What each file of a streamed dataset holds, written down as it is read, and all of them together as one `Source`.

Owns the journal of what was read, so that a listing that is killed goes on with the next file and a later run reads
none. How a file is read is `parquet.py`'s and `shards.py`'s; where it lies meanwhile is the fetcher's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.readers import BytesReader
from hf_finetune.data.sources.shards.shards import LOOKED_AT_SHARDS
from hf_finetune.data.sources.source import (
    Cells,
    RawLabel,
    Source,
    SourceRejected,
    SourceRow,
    count,
    listing,
    whole_digest,
)
from hf_finetune.data.sources.streamed.fetcher import Fetcher, RemoteFile
from hf_finetune.data.sources.streamed.reader import StreamedReader, place
from hf_finetune.errors import DataError
from hf_finetune.files.journal import line_of, whole_lines
from hf_finetune.preprocess.pixels import quiet_pillow, read_header
from hf_finetune.preprocess.value_range import is_high_bit
from hf_finetune.types import Note, Reader

JOURNAL = "files.jsonl"
NO_SPLIT = "no split"  # what parquet.py says of a row
MOST_HIGH_BIT = 256  # of a file: more are not looked at for the scale of their values


@dataclass(frozen=True)
class Listed:
    """What one file holds: a `Source` of it alone, the locators and pixels of its first high-bit grey images, and
    whether any is colour of 16 bits.

    `column`: of the images, in a Parquet file. The split of the rows is the file's, but where a column says it.
    `forms`: of which type a Parquet file's columns are. `kinds` and `values` of columns that may say splits, of which
    the files together decide.
    """

    source: Source
    column: str | None
    by_column: bool
    high_bit: tuple[tuple[int, int], ...] = ()
    deep_colour: bool = False
    forms: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Also those that cannot be used."""
        return sum(map(len, self.source.splits.values())) + len(self.source.rejected)


Read = Callable[[RemoteFile, Path, Listed | None], Listed]  # the last: what the first file holds


def list_files(
    files: Sequence[RemoteFile], fetcher: Fetcher, read: Read, journal: Path, there: Callable[[int], None]
) -> list[Listed]:
    """What each of the files holds, as the journal says or by fetching them one by one. `there` is called with the
    bytes of the files that are listed or at hand. Raises DataError, OSError."""
    found = dict(_kept(journal, files))
    left = [number for number in range(len(files)) if number not in found]
    listed = sum(files[number].size for number in found)
    if left:
        there(listed)
        with journal.open("a", encoding="utf-8") as kept:
            kept.write("\n")  # ends a line that was torn
            for number in fetcher.in_turn(left):
                listed += files[number].size
                there(listed)
                found[number] = _looked_at(read(files[number], fetcher.path(number), found.get(0)))
                kept.write(_line(files[number], found[number]))
                kept.flush()
                os.fsync(kept.fileno())
    return [found[number] for number in range(len(files))]


def joined(config: Data, files: Sequence[RemoteFile], listed: Sequence[Listed], fetcher: Fetcher) -> Source:
    """The files as one dataset, its rows named as `datasets` numbers them where they have no names of their own.

    Raises DataError where the files do not hold the same columns and classes, and where all of them together say splits
    that each by itself does not.
    """
    name = config.name
    _refuse_unlike(name, files, listed)
    split_notes = _refuse_splits(config, files, listed)
    by_column = any(each.by_column for each in listed)
    splits: dict[str, list[SourceRow]] = {} if by_column else {file.split: [] for file in files}
    rejected: list[SourceRejected] = []
    before: dict[str, int] = dict.fromkeys(splits, 0)
    for number, (file, each) in enumerate(zip(files, listed, strict=True)):
        first = before.get(file.split, 0)
        for own, rows in each.source.splits.items():
            split = own if each.by_column else file.split
            named = (_named(row, file, first, numbered=each.column is not None) for row in rows)
            splits.setdefault(split, []).extend(replace(row, locator=place(number, int(row.locator))) for row in named)
        for row in each.source.rejected:
            named_row = _named(row, file, first, numbered=each.column is not None)
            rejected.append(replace(named_row, split=row.split if each.by_column else file.split))
        before[file.split] = first + each.rows
    labelled = next((each.source for each in listed if each.source.label_columns), listed[0].source)
    reader = StreamedReader(
        tuple(str(fetcher.path(number)) for number in range(len(files))),
        listed[0].column,
        {place(number, own): pixels for number, each in enumerate(listed) for own, pixels in each.high_bit},
        any(each.deep_colour for each in listed),
        fetcher,
    )
    return Source(
        name=name,
        splits=splits,
        reader=reader,
        has_splits=by_column or listed[0].column is not None or set(splits) != {"train"},
        label_names=labelled.label_names,
        rejected=tuple(rejected),
        notes=(*_notes(listed), *split_notes),
        layout=f"{count(len(files), 'file')}, one at a time: {labelled.layout.partition(': ')[2]}",
        label_columns=labelled.label_columns,
    )


def _looked_at(listed: Listed) -> Listed:
    """With a digest of the whole of each image, so that no file is fetched again to compare two, and what kinds of
    images there are."""
    reader, deep_colour = listed.source.reader, False
    high_bit: list[tuple[int, int]] = []
    splits: dict[str, list[SourceRow]] = {}
    with quiet_pillow():
        for split, rows in listed.source.splits.items():
            splits[split] = []
            for row in rows:
                data = _bytes(reader, row)
                header = read_header(data)
                if is_high_bit(header.mode) and len(high_bit) < MOST_HIGH_BIT:
                    high_bit.append((int(row.locator), header.pixels))
                deep_colour |= header.deep_colour
                splits[split].append(replace(row, tail=whole_digest(data)) if data else row)
    source = replace(listed.source, splits=splits)
    return replace(listed, source=source, high_bit=tuple(high_bit), deep_colour=deep_colour)


def _bytes(reader: Reader, row: SourceRow) -> bytes:
    try:
        return reader.read(row.locator)
    except (OSError, ValueError, LookupError):
        return b""  # the image store names rows that cannot be read


def _named(row: Any, file: RemoteFile, first: int, *, numbered: bool) -> Any:
    """Rows of Parquet have numbers: over all files of a split, not the one of the file."""
    if not numbered:
        return row
    number, _, rest = row.name.removeprefix(f"{file.name} row ").partition(" ")
    return replace(row, name=f"{file.split} row {first + int(number)}" + (f" {rest}" if rest else ""))


def _refuse_unlike(name: str, files: Sequence[RemoteFile], listed: Sequence[Listed]) -> None:
    labelled = [number for number, each in enumerate(listed) if each.source.label_columns]
    for number, each in enumerate(listed):
        first = listed[labelled[0]] if number in labelled else listed[0]
        alike = number not in labelled or (
            (each.source.label_columns, each.source.label_names)
            == (first.source.label_columns, first.source.label_names)
        )
        if not alike or (each.column, each.by_column) != (first.column, first.by_column):
            raise DataError(
                f"data.name: the same columns and classes are expected in every file of {name}, found others in "
                f"{files[number].name}",
                "name them (data.label_column, data.image_column, data.split_column), or leave a split out by "
                "data.ignore_splits",
            )


def _refuse_splits(config: Data, files: Sequence[RemoteFile], listed: Sequence[Listed]) -> tuple[Note, ...]:
    """Raises DataError where a column says the splits, which is known once all files are read, or says none of a row;
    notes on one that may be meant."""
    in_parquet = listed[0].column is not None
    if config.split_column is not None:
        blank = sum(row.reason == NO_SPLIT for each in listed for row in each.source.rejected)
        if in_parquet and blank:
            raise DataError(
                f"data.split_column: a split in every row is expected where files are read one by one, found {blank:,} "
                f"rows of {config.name} without",
                "raise data.download_limit, so that all files are at hand, or leave data.split_column out",
            )
        return ()
    if in_parquet and len({file.split for file in files}) > 1:
        return ()  # the files' own, whatever a column says
    seen = listed if in_parquet else listed[:: max(1, len(listed) // LOOKED_AT_SHARDS)]
    kinds = {column: kind for each in reversed(seen) for column, kind in each.kinds.items()}
    column, notes = columns.find_split(
        kinds, config, config.name, lambda name: dict.fromkeys(v for each in seen for v in each.values.get(name, ()))
    )
    if column is not None:
        raise DataError(
            f"data.split_column: it is expected to be named where files are read one by one, found {column!r} in "
            f"{config.name}, which may say each row's split",
            f"set data.split_column={column}, or raise data.download_limit, so that all files are at hand",
        )
    return notes


def _notes(listed: Sequence[Listed]) -> tuple[Note, ...]:
    """Each once, with the files that it is about."""
    names: dict[str, list[str]] = {}
    for note in (note for each in listed for note in each.source.notes):
        names.setdefault(note.text, []).extend([note.names] if note.names else [])
    return tuple(Note(text, listing(dict.fromkeys(about))) for text, about in names.items())


def _kept(journal: Path, files: Sequence[RemoteFile]) -> Iterator[tuple[int, Listed]]:
    """What whole lines of the journal say of files, by their numbers."""
    numbers = {(file.name, file.split, file.size): number for number, file in enumerate(files)}
    for told in whole_lines(journal):
        try:
            number = numbers.get((told["file"], told["split"], told["size"]))
            if number is not None:
                yield number, _from(told)
        except (ValueError, LookupError, TypeError, AttributeError):  # of another version
            continue


def _line(file: RemoteFile, listed: Listed) -> str:
    source = listed.source
    told: dict[str, Any] = {
        "file": file.name,
        "split": file.split,
        "size": file.size,
        "rows": {
            split: [[row.name, _label_out(row.label), row.locator, row.size, row.tail.hex(), row.group] for row in rows]
            for split, rows in source.splits.items()
        },
        "rejected": [[row.name, row.split, row.reason] for row in source.rejected],
        "notes": [[note.text, note.names] for note in source.notes],
        "label_names": source.label_names,
        "label_columns": source.label_columns,
        "layout": source.layout,
        "images": [listed.column, listed.by_column, listed.high_bit, listed.deep_colour],
        "columns": [listed.forms, listed.kinds, listed.values],
    }
    return line_of(told)


def _from(told: Mapping[str, Any]) -> Listed:
    source = Source(
        name=told["file"],
        splits={
            split: [
                SourceRow(name, _label_in(label), locator, size, tail=bytes.fromhex(tail), group=group)
                for name, label, locator, size, tail, group in rows
            ]
            for split, rows in told["rows"].items()
        },
        reader=BytesReader(()),  # the whole dataset's reader fetches the file
        label_names=None if told["label_names"] is None else tuple(told["label_names"]),
        rejected=tuple(SourceRejected(*each) for each in told["rejected"]),
        notes=tuple(Note(*each) for each in told["notes"]),
        label_columns=tuple(told["label_columns"]),
        layout=told["layout"],
    )
    column, by_column, high_bit, deep_colour = told["images"]
    high_bit = tuple((own, pixels) for own, pixels in high_bit)
    return Listed(source, column, by_column, high_bit, deep_colour, *told["columns"])


def _label_out(label: RawLabel) -> Any:
    return {"cells": list(label)} if isinstance(label, Cells) else label


def _label_in(label: Any) -> RawLabel:
    if isinstance(label, dict):
        return Cells(tuple(each) if isinstance(each, list) else each for each in label["cells"])
    return tuple(label) if isinstance(label, list) else label
