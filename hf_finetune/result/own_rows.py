"""The rows of a split of the run's own data, as the run split them, wherever its images are now.

Owns what becomes of data that moved or changed since. Does not own scoring (`evaluate.py`) nor the record itself
(`split_record.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.naming import missing_path_hint, was_in_memory
from hf_finetune.data.sources.readers import ShardReader
from hf_finetune.data.sources.source import count, listing
from hf_finetune.data.sources.streamed.reader import StreamedReader
from hf_finetune.errors import DataError
from hf_finetune.labels import Labels, Reading
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.split_record import SplitRecord, kept_corrections, read_record
from hf_finetune.types import Index, Reader, Split, is_builtin

OTHER = "Other images are scored with --data."


@dataclass(frozen=True)
class OwnRows:
    """The rows to score, what to say about them, and whether they are just those that the run scored itself."""

    index: Index
    notes: tuple[str, ...] = ()
    same: bool = True


def own_rows(folder: Path, data: Data, manifest: Manifest, split: Split, seed: int, *, moved: bool) -> OwnRows:
    """`split` of the data that the result in `folder` was trained on. `moved`: `data.name` says where they are now.

    Rows that were trained on are never scored as another split: the run folder's record decides, and without one a
    split that would be cut anew from data that changed is refused. Raises DataError.
    """
    from hf_finetune.data.index.scan import scan

    if was_in_memory(data.name):
        raise DataError(f"The result's own images are not at hand: they were {data.name}.", "Name images with --data.")
    record = read_record(folder.absolute().parent)
    if not moved:
        data = data.model_copy(update={"name": _place(data.name, record, manifest)})
    if data.corrections is not None and not Path(data.corrections).expanduser().is_file():  # relative, or gone since
        table = kept_corrections(folder.absolute().parent, data.corrections)
        data = data.model_copy(update={"corrections": table})
    reading = manifest.target.reading
    if record is not None:
        return _recorded(record, data, split, reading)
    index = scan(data, seed=seed, reading=reading)
    if manifest.data_revision in (None, index.revision):
        return OwnRows(index)
    if split in index.cut or (split == "train" and index.cut):
        raise DataError(
            f"{index.source} has changed since the run, and which rows were cut from it for {split} is known to the "
            "run folder alone: cut anew, rows that were trained on would be scored.",
            f"Give the run folder, or put the images back as they were. {OTHER}",
        )
    return OwnRows(index, ("the data have changed since the run",), same=False)


def _recorded(record: SplitRecord, data: Data, split: Split, reading: Reading) -> OwnRows:
    from hf_finetune.data.index.scan import scan_named

    wanted = record.names.get(split, [])
    if not wanted:
        there = ", ".join(name for name, rows in record.names.items() if rows)
        raise DataError(f"The run has no {split} split; it has {there}.", "Choose one with `--split`.")
    few = data.shots is not None  # the others of train lie where the run's rows do, and are not new
    was_cut = split in record.cut or (split == "train" and (few or bool(record.cut)))
    ours = set(wanted)
    others = (record.there | set(record.left_out)) - ours
    index, new, out = scan_named(data, split, ours, others, only=was_cut, reading=reading)
    index = _relabelled(index, split, record)
    rows = index.splits[split]
    numbered = any(isinstance(row.locator, int) for row in rows) and not _in_shards(index.reader)
    if index.revision != record.revision and numbered:
        commit = "" if record.place is not None else ", or name their commit (data.revision=COMMIT)"
        raise DataError(
            f"{index.source} has changed since the run, and its rows have no names of their own, only numbers: those "
            f"of {split} cannot be told from those that were trained on.",
            f"Put the data back as they were{commit}. {OTHER}",
        )
    found = {row.name for row in rows}
    gone = ours - found - {row.name for row in index.rejected}
    if not found & ours:
        raise DataError(
            f"None of the {len(wanted):,} {split} images of the run is in {index.source} any more, such as "
            f"{_some(ours)}.",
            f"Where they have moved, name the place: data.name=PLACE. {OTHER}",
        )
    if len(gone) > max(0.5, data.max_bad_share) * len(wanted):
        raise DataError(
            f"Only {len(wanted) - len(gone):,} of the {len(wanted):,} {split} images of the run are in {index.source}: "
            "their score would say little about the others.",
            f"Put them back, or set data.max_bad_share=0.99 to score what is left. {OTHER}",
        )
    notes = []
    if gone:
        notes.append(f"no longer there: {len(gone):,} of the {len(wanted):,} images that the run had ({_some(gone)})")
    if new and was_cut and not few:
        notes.append(f"{count(len(new), 'image')} added since the run, and not scored: {split} was cut before")
    elif new and not was_cut:
        notes.append(f"{count(len(new), 'image')} added since the run")
    if out:
        notes.append(f"{count(len(out), 'image')} not scored, since in another split of the run: {_some(out)}")
    return OwnRows(index, tuple(notes), same=found == ours)


def _in_shards(reader: Reader) -> bool:
    """Whether its rows have names of their own although they are no files."""
    return isinstance(reader, ShardReader) or (isinstance(reader, StreamedReader) and reader.column is None)


def _relabelled(index: Index, split: Split, record: SplitRecord) -> Index:
    """With the labels that `hf-finetune fix` gave rows of the split."""
    if not record.labels:
        return index
    names, rows = list(index.labels.names), []
    for row in index.splits[split]:
        given = record.labels.get(row.name)
        if isinstance(given, str):
            if given not in names:
                names.append(given)
            row = replace(row, label=names.index(given))
        elif given is not None:
            row = replace(row, label=tuple(math.nan if each is None else each for each in given))
        rows.append(row)
    return replace(index, labels=Labels(tuple(names)), splits={**index.splits, split: tuple(rows)})


def _place(name: str, record: SplitRecord | None, manifest: Manifest) -> str:
    """Where the data are: the absolute place that the run saw, or the recipe's name from here."""
    was_here = manifest.data_is_local if record is None else record.place is not None
    if is_builtin(name) or not was_here:
        return name
    there = record.place if record is not None and record.place is not None else name
    for place in (there, name):
        if Path(place).expanduser().exists():
            return place
    close = missing_path_hint(Path(there), close_only=True)
    raise DataError(
        f"data.name: the images of the run are expected where they were, found nothing at {there}.",
        f"{f'{close} ' if close else ''}Where they have moved, name the place: data.name=PLACE. {OTHER}",
    )


def _some(names: Iterable[str]) -> str:
    return listing(sorted(names), 3)
