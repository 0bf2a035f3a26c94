"""A folder with the images of a single class: enough to score a result on, and nothing to train on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hf_finetune.data.config import Data
from hf_finetune.data.sources.folders.walk import walk
from hf_finetune.data.sources.naming import TABLE_SUFFIXES, refuse_unused
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.regular import why_no_file
from hf_finetune.data.sources.source import Source, SourceRejected, file_row, plain
from hf_finetune.data.sources.split_names import split_of
from hf_finetune.errors import DataError


def read_one_class(root: Path, config: Data, classes: Collection[str]) -> Source | None:
    """The rows of a folder that holds one class folder and no other image, or that is itself the folder of a class.

    The class is the folder's name; that of images without a folder between must be one of `classes`. None where it
    holds several folders of images, a split's folder, both folders and images, or a table. Raises DataError where the
    folder cannot be read, or columns are named.
    """
    root = root.absolute()
    files = walk(root)
    if any(Path(name).suffix.lower() in TABLE_SUFFIXES for name in files.others):
        return None
    names = [*(name for name, _ in files.images), *files.links]
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(tops) != 1:
        return None
    (top,) = tops
    label = plain(top or root.name)
    if label not in classes and (not top or split_of(label) is not None):
        return None
    refuse_unused(config, f"the folder of one class {root}", "revision", "config", "image_column", "label_column")
    rows = []
    rejected = [SourceRejected(plain(name), "train", why_no_file(str(root / name))) for name in files.links]
    for name, entry in files.images:
        try:
            stat = entry.stat()
        except OSError as error:
            raise DataError(f"data.name: {entry.path} cannot be read: {error.strerror}", "remove or mend it") from error
        rows.append(file_row(plain(name), label, entry.path, stat))
    return Source(str(root), {"train": rows}, FileReader(), has_splits=False, rejected=tuple(rejected))
