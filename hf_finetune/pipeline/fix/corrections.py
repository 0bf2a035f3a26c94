"""The table with which `train` takes up what was fixed: corrections.csv in the fixed run's folder.

Owns what of it a dataset can be told: rows that were added from elsewhere, and classes that it does not have, it
cannot.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hf_finetune.labels import LabelColumn
from hf_finetune.pipeline.fix.opened import OpenedRun
from hf_finetune.report.predicted.columns import csv_cell
from hf_finetune.result.split_record import SplitRecord

FILE = "corrections.csv"


def write_corrections(
    opened: OpenedRun,
    record: SplitRecord,
    columns: Sequence[LabelColumn],
    foreign: Collection[str],
    folder: Path,
) -> None:
    """The lines of the recipe's own table, those of earlier fixes and these; nothing where there is none. Rows of the
    dataset that now are of a `foreign` class, which it cannot be told, are left out of it. `columns`: what the labels
    are."""
    lines: dict[str, tuple[str, str]]
    lines = {each.path: (each.action, each.label) for each in opened.own_corrections if each.action != "keep"}
    out: dict[str, tuple[str, str]] = dict.fromkeys(record.left_out, ("exclude", ""))
    for name, label in record.labels.items():
        text = label if isinstance(label, str) else _text(label, columns, opened)
        out[name] = ("exclude", "") if text in foreign else ("relabel", text)
    lines |= {name: line for name, line in out.items() if name not in record.added}
    if not lines:
        return
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "action", "label"))
        for name, (action, label) in lines.items():
            writer.writerow((csv_cell("path", name), action, csv_cell("label", label)))


def _text(label: Sequence[float | None], columns: Sequence[LabelColumn], opened: OpenedRun) -> str:
    """A label that is no class, as `data.corrections` reads it: a number, a list of names, or a list with what each
    column of the dataset holds."""
    cells: dict[str, Any] = {}
    place = 0
    for column in columns:
        cells[column.name] = _cell(label[place : place + column.width], column)
        place += column.width
    if len(columns) > 1:
        given = opened.recipe.data.label_columns or tuple(cells)
        found: Any = [cells.get(name) for name in given]
    else:
        (found,) = cells.values()
    return json.dumps(found, ensure_ascii=False)


def _cell(label: Sequence[float | None], column: LabelColumn) -> Any:
    """What a row has of one column; None where that is not known."""
    if column.kind in ("classes", "grades"):
        return None if label[0] is None else column.names[int(label[0])]
    numbers = [int(each) if each is not None and each.is_integer() else each for each in label]
    if column.of_columns:
        return numbers
    if column.kind == "numbers":
        return numbers[0]
    return [name for name, truth in zip(column.names, numbers, strict=True) if truth == 1]
