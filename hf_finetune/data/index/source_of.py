"""Finds the source that `data.name` means: what is on this machine by that name, or the Hub's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.inside import held_inside
from hf_finetune.data.sources.naming import (
    ARCHIVE_SUFFIXES,
    HUB_ID,
    TABLE_FIELDS,
    TABLE_SUFFIXES,
    is_pattern,
    is_shard,
    looks_like_path,
    missing_path_hint,
    refuse_unused,
)
from hf_finetune.data.sources.regular import why_no_file
from hf_finetune.data.sources.source import Source, listing
from hf_finetune.data.sources.split_names import read_splits
from hf_finetune.errors import DataError
from hf_finetune.types import Note, is_builtin


def is_on_the_hub(name: str) -> bool:
    """Whether `data.name` can only be meant as a dataset of the Hub: nothing of that name is on this machine."""
    path = Path(name).expanduser()
    return not is_builtin(name) and not path.exists() and not looks_like_path(name) and bool(HUB_ID.fullmatch(name))


def source_of(config: Data) -> Source:
    """The rows of `config.name` in its own words. Raises DataError."""
    name = config.name
    if is_builtin(name):
        from hf_finetune.data.sources.digits import NAME, read_digits

        if name != NAME:
            raise DataError(f"data.name: {NAME} is the one built-in dataset, found {name}", "did you mean it?")
        refuse_unused(config, NAME, "revision", "config", "class_level", *TABLE_FIELDS)
        return read_digits()
    path = Path(name).expanduser()
    if is_pattern(name) and not path.exists():
        from hf_finetune.data.sources.shards.listed import read_pattern

        return read_pattern(name, config)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise DataError(f"data.name: {path} cannot be read: {error.strerror}", "check its permissions") from error
    if is_folder:
        from hf_finetune.data.sources.folders.folder import read_folder

        return held_inside(read_folder(path, config), config, _own_folders(path, config), from_hub=False)
    if is_file:
        source = _file_source(path, config)
        return held_inside(source, config, _own_folders(path.absolute().parent, config), from_hub=False)
    expected = "a folder, table file, tar shard or Hub id is expected"
    if path.exists() or path.is_symlink():
        raise DataError(
            f"data.name: {expected}, found {why_no_file(str(path))} at {path}",
            "give a folder or a file that is there",
        )
    if not is_on_the_hub(name):
        raise DataError(
            f"data.name: {expected}, found nothing at {path}",
            missing_path_hint(path),
        )
    from hf_finetune.data.sources.hub_dataset import read_hub

    return read_hub(config, missing_path_hint(path, close_only=True))


def source_to_score(config: Data, classes: Collection[str]) -> Source:
    """As `source_of`; a folder with the images of one class is enough, since no classes are told apart."""
    from hf_finetune.data.sources.folders.one_class import read_one_class

    path = Path(config.name).expanduser()
    found = read_one_class(path, config, classes) if path.is_dir() else None
    return source_of(config) if found is None else held_inside(found, config, [path], from_hub=False)


def _own_folders(place: Path, config: Data) -> list[Path]:
    """Where the files of a dataset at `place` belong."""
    if config.image_folder is None:
        return [place]
    folder = Path(config.image_folder).expanduser()
    return [place, folder.absolute(), place / folder]


def _file_source(path: Path, config: Data) -> Source:
    suffix = path.suffix.lower()
    if is_shard(path.name):
        from hf_finetune.data.sources.shards.listed import read_file

        refuse_unused(config, str(path), "revision", "config")
        return read_file(path, config)
    if suffix in ARCHIVE_SUFFIXES:
        raise DataError(
            f"data.name: a folder, a table file or a tar shard is expected, found the archive {path}",
            "unpack it and set data.name to the folder",
        )
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"data.name: a table file ending in {', '.join(TABLE_SUFFIXES)} is expected, found {path}",
            "give the folder that holds the class folders, or a table with an image column and a label column",
        )
    refuse_unused(config, str(path), "revision", "config", "class_level")
    name, path = str(path), path.absolute()
    beside = _splits_beside(path)
    if suffix == ".parquet":
        from hf_finetune.data.sources.card_facts import card_classes
        from hf_finetune.data.sources.parquet import holds_images, read_parquet

        if holds_images(path):
            classes = card_classes(path.parent, config.config or "default")
            source = read_parquet(
                {"train": [path]}, path.parent, config, name=name, has_splits=False, class_lists=classes
            )
            return replace(source, notes=(*source.notes, *beside))
    from hf_finetune.data.sources.tables.rows import open_table, read_tables

    source = read_tables([(open_table(path, config), None)], path.parent, config, name=name)
    return replace(source, notes=(*source.notes, *(() if source.has_splits else beside)))


def _splits_beside(path: Path) -> list[Note]:
    """A note on the tables that read like the other splits of this one."""
    siblings = [each for each in path.parent.iterdir() if each.suffix.lower() == path.suffix.lower()]
    reads = read_splits(sorted(each.stem for each in siblings))
    others = [f"{stem}{path.suffix}" for stem, split in reads.items() if split != "train" and stem != path.stem]
    if reads.get(path.stem) != "train" or not others:
        return []
    return [
        Note(
            "tables beside this one read like its splits and are not used; their folder as data.name reads them all",
            listing(others),
        )
    ]
