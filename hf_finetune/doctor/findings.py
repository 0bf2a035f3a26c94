"""What is found about a dataset's rows, and the table that it is written to, which data.corrections reads again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hf_finetune.data.index.corrections import COLUMNS, Action
from hf_finetune.doctor.kinds import KINDS, Kind
from hf_finetune.files.whole_file import write_whole
from hf_finetune.report.predicted.columns import csv_cell
from hf_finetune.types import Split


@dataclass(frozen=True)
class Finding:
    """One thing about one row. `score`: how sure, 0 to 1, of suspected numbers how many robust standard deviations off;
    `label`: what it is likely to be instead, as data.corrections reads it; `others`: the rows that it is told with;
    `group`: findings of one number belong together (copies of one image); `crosses`: what copies cross, `splits`,
    `labels`, both or neither."""

    path: str
    split: Split
    given: str  # its label, as text
    kind: Kind
    score: float
    detail: str
    action: Action = "keep"
    label: str = ""
    others: tuple[str, ...] = ()
    group: int = -1
    crosses: tuple[str, ...] = ()


def table(findings: Iterable[Finding]) -> str:
    """CSV with a line a finding. Commas, quotes and line breaks are quoted; what a spreadsheet would take for a formula
    is marked (`./=1.jpg`, `'-x`), which corrections.py takes off again."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow((*COLUMNS, "split", "given", "detail"))
    for each in findings:
        texts = {"label": each.label, "split": each.split, "given": each.given, "detail": each.detail}
        texts = {name: csv_cell(name, text) for name, text in texts.items()}
        writer.writerow((csv_cell("path", each.path), each.kind, f"{each.score:.4f}", each.action, *texts.values()))
    return written.getvalue()


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By kind, the surest first; copies of an image together, those in several splits or under several labels first."""
    surest: dict[int, float] = {}
    found = list(findings)
    for each in found:
        surest[each.group] = max(surest.get(each.group, 0.0), each.score)

    places = {kind: place for place, kind in enumerate(KINDS)}

    def key(each: Finding) -> tuple[int, int, float, int, str]:
        score = surest[each.group] if each.group >= 0 else each.score
        return places[each.kind], -len(each.crosses), -score, each.group, each.path

    return sorted(found, key=key)


def write_table(path: Path, findings: Iterable[Finding]) -> None:
    """Whole or not at all: a full disk leaves what was there."""
    write_whole(path, table(findings))
