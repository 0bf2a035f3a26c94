"""Scans, refusals and small tables, for tests of what is read out of folders and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import class_folders

WHOLE = {"test_share": 0, "validation_share": 0}


def index(root: Path, **fields: Any) -> Index:
    return scan(Data(name=str(root), **fields), seed=0)


def refusal(root: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        index(root, **fields)
    return str(caught.value).replace(str(root), "ROOT")


def sizes(found: Index) -> dict[str, int]:
    return {split: len(rows) for split, rows in found.splits.items() if rows}


def notes(found: Index) -> str:
    return "\n".join(map(str, found.notes))


def table(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


def pictures(root: Path, folders: Mapping[str, int]) -> list[str]:
    """Images in folders below `root`; their names, sorted."""
    class_folders(root, folders)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
