"""Makes the `Index`: every row of the dataset by split, with label ids; nothing decoded.

Owns the order of the work (find the source, correct it, choose splits, encode labels, cut what is missing, report).
How each kind of source is read lives in a module of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.index import splits, targets
from hf_finetune.data.index.corrections import corrected
from hf_finetune.data.index.missing_splits import cut_missing
from hf_finetune.data.index.source_of import source_of, source_to_score
from hf_finetune.data.index.targets import Encoded, encode
from hf_finetune.data.index.together import find_together
from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.source import Source, SourceRow, count
from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.labels import Reading
from hf_finetune.types import SPLITS, Index, Note, Rejected, Row, Split

ANY, CLASSES = Reading(), Reading("classes")


def scan(config: Data, *, seed: int, reading: Reading = ANY) -> Index:
    """The index of `config.name`: a folder, a table file, tar shards, a Hub id or `builtin:digits`.

    `seed`, or `config.split_seed`, decides which rows are cut from train where a split is missing, `reading` how labels
    are taken. Raises DataError.
    """
    config = _asking(config, reading)
    return build_index(source_of(config), config, seed=seed, reading=reading)


def index_of(data: Any, config: Data, *, seed: int, reading: Reading = ANY) -> Index:
    """The index of what a notebook has at hand; `config.name` is not read.

    `data` is a `datasets.Dataset` or `DatasetDict`, a `torch.utils.data.Dataset` of (image, label) or a mapping of
    split names to such, a folder or file path, or a list of (path, label) pairs or of paths whose parent folder is the
    class. Raises DataError.
    """
    config = _asking(config, reading)
    if isinstance(data, str | Path):
        return scan(config.model_copy(update={"name": str(data)}), seed=seed, reading=reading)
    if isinstance(data, list | tuple):
        from hf_finetune.data.sources.in_memory import read_list

        return build_index(read_list(data, config), config, seed=seed, reading=reading)
    from hf_finetune.data.sources.torch_rows import is_torch_data, read_torch

    if is_torch_data(data):
        return build_index(read_torch(data, config), config, seed=seed, reading=reading)
    from hf_finetune.data.sources.hf_rows import read_datasets

    return build_index(read_datasets(data, config), config, seed=seed, reading=reading)


def scan_split(config: Data, split: Split, classes: Collection[str] = (), reading: Reading = CLASSES) -> Index:
    """Only the rows to score: the dataset's own `split`, or all of a dataset that knows no splits.

    Nothing is cut, and neither a training split nor every class is needed: a folder of one of `classes` does. Raises
    DataError, also where more than `max_bad_share` of the rows cannot be scored.
    """
    config = _asking(config, reading)
    source = corrected(source_to_score(config, classes), config.corrections, reading)
    own = splits.find(source, config, split)
    return _index_of(source, encode({split: source.splits[own]}, source, config, reading), own, split, config)


def scan_named(
    config: Data,
    split: Split,
    wanted: Collection[str],
    others: Collection[str],
    *,
    only: bool,
    reading: Reading = CLASSES,
) -> tuple[Index, list[str], list[str]]:
    """The rows of `split` of a dataset that was split before, into the names `wanted` for this one and `others`.

    With `only` just those of `wanted`, wherever train would be cut now; without, the dataset's own split but for rows
    that were `others`. Gives the index, the names that are new since, and those left out. Nothing is cut, and what
    another split lacks is of no matter. Raises DataError.
    """
    config = _asking(config, reading)
    source = corrected(source_of(config), config.corrections, reading)
    given, _ = splits.assign(source, config)
    own = given["train"] if only else given.get(split, given["train"])
    found: dict[Split, list[SourceRow]] = {each: source.splits[name] for each, name in given.items()}
    for each in SPLITS[1:]:  # as a run does, so that its decoded images are found again
        if found.get(each) and all(is_missing(row.label) for row in found[each]):
            del found[each]
    encoded = encode(found, source, config, reading)
    there = next((rows for each, rows in encoded.found.items() if given[each] == own), source.splits[own])
    new = [row.name for row in there if row.name not in wanted and row.name not in others]
    out = [] if only else [row.name for row in there if row.name not in wanted and row.name in others]
    kept = [row for row in there if row.name in wanted or not (only or row.name in others)]
    kept_rows = encode({split: kept}, source, config, reading)
    index = _index_of(source, kept_rows, own, split, config, wanted if only else None)
    return replace(index, revision=_revision(source, encoded.found)), new, out


def _asking(config: Data, reading: Reading) -> Data:
    """With the columns of several targets, where the recipe names no others."""
    unsaid = reading.columns and config.label_column is None
    return config.model_copy(update={"label_column": tuple(reading.columns)}) if unsaid else config


def _index_of(
    source: Source,
    encoded: Encoded,
    own: str,
    split: Split,
    config: Data,
    only: Collection[str] | None = None,
) -> Index:
    """The index of one split to score. `only`: the names for which a row that cannot be used counts."""
    rows = encoded.rows
    missing = [
        Rejected(row.name, split, row.reason)
        for row in source.rejected
        if (row.split == own if only is None else row.name in only)
    ]
    rejected = [*missing, *encoded.rejected]
    if not rows[split] and not rejected:
        raise DataError(f"data.name: labelled images are expected in {source.name}, found none", "give another dataset")
    _refuse_bad_share(source, rows, rejected, config)
    return Index(
        source=source.name,
        revision=_revision(source, encoded.found),
        commit=source.commit,
        licence=source.licence,
        labels=encoded.labels,
        splits={split: tuple(Row(row.name, label, row.locator) for row, label in rows[split])},
        cut=(),
        rejected=tuple(rejected),
        notes=source.notes,
        reader=source.reader,
        columns=encoded.columns,
        touched_s=_touched_s(source, encoded.found),
    )


def build_index(source: Source, config: Data, *, seed: int, reading: Reading = ANY) -> Index:
    """Chooses splits, encodes labels, cuts missing splits and gathers the notes. Raises DataError."""
    source = corrected(source, config.corrections, reading)
    given, split_notes = splits.assign(source, config)
    notes = [*source.notes, *split_notes]
    found: dict[Split, list[SourceRow]] = {split: source.splits[own] for split, own in given.items()}
    for split in SPLITS[1:]:
        if found.get(split) and all(is_missing(row.label) for row in found[split]):
            notes.append(_unlabelled(split, given[split], len(found.pop(split)), config))
    own_to_split: dict[str, Split] = {own: split for split, own in given.items() if split in found}
    rejected = [
        Rejected(row.name, own_to_split.get(row.split, "train"), row.reason)
        for row in source.rejected
        if row.split in own_to_split or row.split not in source.splits  # of an unknown split: counted with train
    ]
    _refuse_empty(source, found, rejected)
    encoded = encode(found, source, config, reading)
    notes += encoded.notes
    rejected += encoded.rejected
    _refuse_bad_share(source, encoded.rows, rejected, config)
    notes += targets.check(encoded, source.name)

    together = find_together(source, encoded, config)
    final, cut_names, cut_notes = cut_missing(encoded, together, config, seed)
    as_given: dict[Split, str] = {split: given[split] for split in found if split not in cut_names}
    return Index(
        source=source.name,
        revision=_revision(source, encoded.found),
        commit=source.commit,
        licence=source.licence,
        labels=encoded.labels,
        splits={split: together.rows(final.get(split, ())) for split in SPLITS},
        cut=cut_names,
        rejected=tuple(rejected),
        notes=(*notes, *together.notes, *together.leaks, *cut_notes),
        reader=source.reader,
        layout=source.layout,
        own_names=as_given if source.has_splits else {},
        columns=encoded.columns,
        touched_s=_touched_s(source, encoded.found),
    )


def _unlabelled(split: Split, own: str, size: int, config: Data) -> Note:
    asked: Mapping[Split, str | None] = {"validation": config.validation_split, "test": config.test_split}
    if asked[split] is not None:
        raise DataError(
            f"data.{split}_split: labelled rows are expected, found {count(size, 'row')} without a label in {own!r}",
            f"name a split with labels, or set data.{split}_split to null",
        )
    return Note(f"split {own} is not used: none of its {count(size, 'row')} has a label")  # a usual name of a split


def _refuse_empty(source: Source, found: Mapping[Split, list[Any]], rejected: list[Rejected]) -> None:
    for split, rows in found.items():
        if not rows:
            why = next((f"; {one_line(f'{row.name}: {row.reason}')}" for row in rejected if row.split == split), "")
            raise DataError(
                f"data.name: images with labels are expected in {split} of {source.name}, found none{why}",
                "check that the files are there and that data.name is the folder above the class folders",
            )


def _refuse_bad_share(
    source: Source, rows: Mapping[Split, Sequence[Any]], rejected: list[Rejected], config: Data
) -> None:
    total = len(rejected) + sum(map(len, rows.values()))
    if len(rejected) > config.max_bad_share * total:
        shown = "; ".join(one_line(f"{row.name}: {row.reason}") for row in rejected[:5])
        raise DataError(
            f"data.max_bad_share: at most {config.max_bad_share:.1%} of the rows of {source.name} may be unusable, "
            f"found {len(rejected):,} of {total:,}: {shown}",
            "mend these rows" + (", or raise data.max_bad_share to skip them" if len(rejected) < total else ""),
        )


def _revision(source: Source, found: Mapping[Split, list[SourceRow]]) -> str:
    """Hash over the source's stamp and every row's name, size, time, label and given split.

    What was cut from train is not in it, so that another seed finds the images that were decoded already.
    """
    digest = blake2b(f"{source.stamp}\0{source.label_names}\n".encode(), digest_size=16)
    # Sorted by names first, since the lines of all rows at once would be much of what the index takes.
    rows = sorted(((row, split) for split, rows in found.items() for row in rows), key=lambda each: each[0].name)
    for _, alike in groupby(rows, key=lambda each: each[0].name):
        lines = [f"{row.name}\0{row.size}\0{row.mtime_ns}\0{row.label}\0{split}\n" for row, split in alike]
        digest.update("".join(sorted(lines)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _touched_s(source: Source, found: Mapping[Split, list[SourceRow]]) -> float:
    """When any of the source's files was last touched, as `time.time()` counts."""
    return max((source.touched_ns, *(row.touched_ns for rows in found.values() for row in rows))) / 1e9
