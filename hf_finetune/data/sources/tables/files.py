"""Where the files are that a table names: beside it, or in `data.image_folder`; with or without a suffix.

Owns how a cell becomes a file, and the search nearby for a folder that can be offered where no file is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.cells import locate
from hf_finetune.data.sources.folders.walk import walk
from hf_finetune.data.sources.naming import IMAGE_SUFFIXES
from hf_finetune.errors import DataError

MOST_FOLDERS = 200  # are looked at nearby
TRIED = 20  # cells that tell whether a folder holds the files


class TableFiles:
    """The files of one table. `deep`: a name without folders may lie anywhere below, where it does so once."""

    def __init__(self, table: Path, config: Data, *, deep: bool = False) -> None:
        """Raises DataError where `data.image_folder` is not there."""
        self._deep = deep or config.image_folder is not None
        self._below: dict[str, list[str]] | None = None
        self.folder = table.parent if config.image_folder is None else _image_folder(table, config.image_folder)
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, cell: str) -> str:
        """The path that a cell means, which need not exist. Raises DataError for an address on a network.

        Blanks around it are dropped, and a missing suffix is added, where only that names a file.
        """
        file = locate(cell, self.folder)
        if os.path.isfile(file):  # noqa: PTH113 (a Path per row doubles the time)
            return file
        if cell != cell.strip():
            return self.find(cell.strip())
        return self._completed(file) or self._anywhere(cell) or file

    def holds_all(self, cells: Iterable[str]) -> bool:
        """Whether every one of these cells names a file; False for none."""
        some = [cell for cell in cells if cell.strip()]
        return bool(some) and not any("://" in cell for cell in some) and all(map(self._has, some))

    def _has(self, cell: str) -> bool:
        try:
            return os.path.isfile(self.find(cell))  # noqa: PTH113
        except ValueError:  # a null byte
            return False

    def _anywhere(self, cell: str) -> str | None:
        """The one file below of that name, with or without its suffix; None for several or none."""
        if not self._deep or "/" in cell or "\\" in cell:
            return None
        if self._below is None:
            self._below = {}
            for name, entry in walk(self.folder).images:
                plain_name = name.rpartition("/")[2]
                for key in {plain_name, os.path.splitext(plain_name)[0]}:  # noqa: PTH122
                    self._below.setdefault(key, []).append(entry.path)
        found = self._below.get(cell, [])
        return found[0] if len(found) == 1 else None

    def _completed(self, file: str) -> str | None:
        folder, name = os.path.split(file)
        if not name or os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
            return None
        if folder not in self._listed:
            self._listed[folder] = _by_stem(folder)
        found = self._listed[folder].get(name, [])
        return os.path.join(folder, found[0]) if len(found) == 1 else None  # noqa: PTH118


def folder_nearby(table: Path, cells: Sequence[str]) -> Path | None:
    """The folder below or beside the table's from which most of the first cells name a file; None where none does."""
    best: tuple[int, Path] | None = None
    tried = [cell for cell in cells[:TRIED] if cell.strip() and "://" not in cell]
    near = list(_near(table.parent))
    for folder in near:
        if table.parent in folder.parents and TableFiles(folder / table.name, Data()).holds_all(tried):
            return folder
    if TableFiles(table, Data(), deep=True).holds_all(tried):
        return table.parent
    for folder in near:
        files = TableFiles(folder / table.name, Data())
        found = sum(map(files._has, tried))
        if found and (best is None or found > best[0]):
            best = found, folder
    return None if best is None else best[1]


def _near(folder: Path) -> Iterator[Path]:
    """Folders below, then those of the parent, the nearest first; hidden ones and the folder itself are left out."""
    seen = {folder}
    for root, levels in ((folder, 3), (folder.parent, 2)):
        level = [root]
        for _ in range(levels + 1):
            for each in level:
                if each not in seen:
                    seen.add(each)
                    yield each
                if len(seen) > MOST_FOLDERS:
                    return
            level = [child for each in level for child in _children(each) if child not in seen]


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def _by_stem(folder: str) -> dict[str, list[str]]:
    """Image files by their name without suffix."""
    found: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return found
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
            found.setdefault(stem, []).append(name)
    return found


def _image_folder(table: Path, wanted: str) -> Path:
    given = Path(wanted).expanduser()
    places = [given.absolute()] if given.is_absolute() else [given.absolute(), table.parent / given]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(
            f"data.image_folder: a folder is expected, found none at {' or '.join(map(str, places))}",
            "give the folder that the paths in the table start from",
        )
    return found
