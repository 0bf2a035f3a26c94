"""Which rows a run trained on, validated on and tested on, by name: what a later `evaluate` is held to.

`splits.json` stays in the run folder and is never published: it names the user's files. A cut from train depends on
every row that is there, so that another cut, after pictures were added or removed, would score trained rows as test.
Beside it stands a copy of the table that `data.corrections` named, whose name may say nothing from another folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_finetune.errors import AdapterError
from hf_finetune.files.whole_file import write_whole
from hf_finetune.types import Index, Split

FILE, CORRECTIONS = "splits.json", "data-corrections.csv"


@dataclass(frozen=True)
class SplitRecord:
    """`place` is the folder or table file, absolute (None: the Hub's, built-in, or of a program); `revision` and `cut`
    are the index's. Of a run that `hf-finetune fix` made: the rows that it left out stand in `left_out`, those
    that were never the dataset's in `added`, and `labels` are those that it gave rows by name, a class's name, or the
    numbers as the result takes them (None: not known)."""

    place: str | None
    revision: str
    cut: tuple[Split, ...]
    names: dict[Split, list[str]]
    left_out: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    labels: Mapping[str, str | list[float | None]] = field(default_factory=dict)

    @property
    def there(self) -> set[str]:
        """The names of all rows that are in a split."""
        return {name for names in self.names.values() for name in names}


def write_record(folder: Path, index: Index, data_name: str, corrections: str | None = None) -> None:
    """Write `index`, as it was before anything was decoded, into a run folder; `data_name` and `corrections` are the
    recipe's."""
    names: dict[Split, list[str]] = {split: [row.name for row in rows] for split, rows in index.splits.items()}
    save_record(folder, SplitRecord(local_place(data_name), index.revision, index.cut, names))
    if corrections is None:
        (folder / CORRECTIONS).unlink(missing_ok=True)  # of a run that was here before
    else:
        (folder / CORRECTIONS).write_bytes(Path(corrections).expanduser().read_bytes())


def kept_corrections(folder: Path, written: str | None) -> str | None:
    """The table that `data.corrections` names: the copy in the run folder, where there is one."""
    copy = folder / CORRECTIONS
    return str(copy) if written is not None and copy.is_file() else written


def save_record(folder: Path, record: SplitRecord) -> None:
    """Write a record into a run folder."""
    write_whole(folder / FILE, json.dumps(asdict(record)))


def read_record(folder: Path) -> SplitRecord | None:
    """The run folder's record; None where there is none (a result by itself, or a run from before 2026-11-28).

    Raises AdapterError where it is damaged.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return SplitRecord(**{**content, "cut": tuple(content["cut"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{path} cannot be read ({type(error).__name__}): it says which images the run was trained on.",
            "Copy the run folder again, or score other images with --data.",
        ) from None


def local_place(data_name: str) -> str | None:
    """The absolute path of a folder or file of this machine; None for any other dataset."""
    path = Path(data_name).expanduser()
    try:
        return str(path.absolute()) if path.exists() else None
    except OSError:  # a name too long for a path
        return None
