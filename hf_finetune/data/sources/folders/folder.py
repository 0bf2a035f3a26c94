"""A folder on disk: what in it describes its images (class folders, tables, Parquet files, tar shards), and who reads
that.

`walk` lists the files, `class_folders` and `described` make rows of them; Parquet files are read by `parquet`, tars by
`shards`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.card_facts import card_licence
from hf_finetune.data.sources.folders.class_folders import layout_of, read_class_folders
from hf_finetune.data.sources.folders.described import is_metadata, read_described
from hf_finetune.data.sources.folders.walk import Files, walk
from hf_finetune.data.sources.naming import TABLE_FIELDS, is_shard, refuse_unused
from hf_finetune.data.sources.readers import ShardReader
from hf_finetune.data.sources.source import Source, count, listing
from hf_finetune.errors import DataError
from hf_finetune.types import Note


def read_folder(root: Path, config: Data, *, name: str | None = None, commit: str | None = None) -> Source:
    """The folder's rows. `name` and `commit` are those of the Hub dataset whose snapshot it is, if it is one.

    Raises DataError where it is empty, unreadable, or in no layout that is known.
    """
    root = root.absolute()
    source = _read(root, config, from_hub=name is not None)
    if name is None:
        return source
    # The commit says all of the content of shards; sizes and times would differ in another cache.
    stamp = f"{name} {commit}" if commit and isinstance(source.reader, ShardReader) else source.stamp
    return replace(source, name=name, commit=commit, licence=card_licence(root), stamp=stamp)


def _read(root: Path, config: Data, *, from_hub: bool) -> Source:
    files = walk(root)
    if not from_hub:
        refuse_unused(config, str(root), "revision")
    parquets = sorted(name for name in files.others if name.lower().endswith(".parquet") and not is_metadata(name))
    tars = sorted(name for name in files.others if is_shard(name))
    if parquets and config.class_level is None:
        from hf_finetune.data.sources.parquet import holds_images, read_parquet_folder

        if not (files.images or tars) or any(holds_images(root / name) for name in parquets):
            _refuse_both(root, files, parquets, config)
            source = read_parquet_folder(root, parquets, config)
            beside = Note(f"{count(len(files.images), 'image')} beside Parquet files ignored")
            return replace(source, notes=(*source.notes, beside)) if files.images else source
    if tars and not files.images:
        from hf_finetune.data.sources.shards.listed import read_files

        refuse_unused(config, f"{root} (tar shards)", "config")
        return read_files([root / name for name in tars], root, config, str(root))
    if not from_hub:
        refuse_unused(config, str(root), "config")
    if config.class_level is None and (source := read_described(root, files, config)) is not None:
        return source
    refuse_unused(config, f"the folder of class folders {root}", *TABLE_FIELDS)
    return read_class_folders(root, files, config)


def _refuse_both(root: Path, files: Files, parquets: list[str], config: Data) -> None:
    """Raises DataError where class folders hold as good a dataset as the Parquet files."""
    layout = layout_of(root, files, config) if files.images else None
    names = {name.rpartition("/")[0] for name, _ in files.images}
    if layout is None or len(names) < 2 or len({name.partition("/")[0] for name in names}) < 2:
        return
    raise DataError(
        f"data.name: Parquet files or class folders are expected in {root}, found both: {listing(parquets)}, and "
        f"images in {listing(sorted(names))}",
        f"set data.class_level={layout.class_level} to read the folders, or data.name to the folder or file of "
        "Parquet alone",
    )
