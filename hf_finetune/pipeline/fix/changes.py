"""What a table of corrections says of a finished run: rows that go, other labels, and files that are added.

Owns the reading of the table against the run's rows. Nothing is decoded here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_finetune.data.index.corrections import Correction, one_label_each, read_corrections, refuse_unknown_rows
from hf_finetune.data.index.written_labels import WrittenLabels
from hf_finetune.data.sources.source import count, listing
from hf_finetune.labels import Label
from hf_finetune.pipeline.fix.rows import Rows, same_labels
from hf_finetune.types import SPLITS, Split

logger = logging.getLogger(__name__)
KEY = "fix"


@dataclass(frozen=True)
class Changes:
    """By split: the names of rows that go, and other labels by name. `files` are added to train, path → label; `blank`:
    lines for files that nobody has labelled yet; `idle`: lines that say what is so already."""

    left_out: Mapping[Split, frozenset[str]] = field(default_factory=dict)
    labels: Mapping[Split, Mapping[str, Label]] = field(default_factory=dict)
    files: Mapping[str, Label] = field(default_factory=dict)
    blank: int = 0
    idle: int = 0

    def count(self, split: Split) -> tuple[int, int]:
        """How many rows of a split go, and how many get another label."""
        return len(self.left_out.get(split, ())), len(self.labels.get(split, {}))

    @property
    def none(self) -> bool:
        """Whether the table changes nothing."""
        return not self.files and not any(sum(self.count(split)) for split in SPLITS)


def read_changes(
    table: Path,
    source: str,
    rows: Mapping[Split, Rows],
    tested: frozenset[str],
    gone: frozenset[str],
    labels: WrittenLabels,
) -> Changes:
    """`source`: the run, for people; `tested`: the names of its test rows; `gone`: of rows that are out already.

    A row that goes and is not in the run is out already, whatever keeps it out; where that is not known it is said.
    Raises DataError for other labels of rows that the run does not know, and for labels that it does not.
    """
    wanted = [each for each in read_corrections(table, KEY, blanks=True) if each.action != "keep"]
    own: dict[Split, set[str]] = {split: set(its.names) for split, its in rows.items()}
    own["test"] = set(tested)
    known = set().union(*own.values())
    ours = [each for each in wanted if each.path in known]
    files = [each for each in wanted if each.path not in known and each.action == "relabel" and _file(each, table)]
    strange = [each for each in wanted if each.path not in known | gone and each not in files]
    relabelled = [each for each in strange if each.action != "exclude"]
    # A table of which no line names a row is of other images.
    refuse_unknown_rows(relabelled or ([] if ours or files else strange), known, source, table, KEY)
    if strange:
        names = listing([repr(each.path) for each in strange], 3)
        logger.warning("%s of rows that %s does not have: %s.", count(len(strange), "exclusion"), source, names)

    out = {each.path for each in ours if each.action == "exclude"}
    said = one_label_each([each for each in ours if each.path not in out], table, KEY)
    labelled = one_label_each([each for each in files if each.label], table, KEY)
    read = {each.path: labels.read(each.label, _where(table, each)) for each in (*said.values(), *labelled.values())}
    changed: dict[Split, dict[str, Label]] = {}
    for split, its in rows.items():
        before = dict(zip(its.names, its.labels, strict=True))
        changed[split] = {
            name: read[name] for name in said if name in before and not same_labels(read[name], before[name])
        }
    changed["test"] = {name: read[name] for name in said if name in tested}
    left_out: dict[Split, frozenset[str]] = {split: frozenset(out & names) for split, names in own.items()}
    return Changes(
        left_out,
        changed,
        {str(_file(each, table)): read[each.path] for each in labelled.values()},
        blank=sum(not each.label for each in files),
        idle=len(said) - sum(map(len, changed.values())) + sum(each.path not in known for each in wanted) - len(files),
    )


def _where(table: Path, line: Correction) -> str:
    return f"{KEY}: {table}, line {line.line}"


def _file(line: Correction, table: Path) -> Path | None:
    """The file that a line names: from here, or from the table's folder."""
    for place in (Path(line.path).expanduser(), table.expanduser().absolute().parent / line.path):
        try:
            if place.is_file():
                return place
        except OSError:  # a name that no path can have
            continue
    return None
