"""predictions.csv: what the result said of each scored row, from which its metrics can be recomputed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from hf_finetune.files.whole_file import whole_file
from hf_finetune.report.predicted.columns import csv_cell, text_of_cell
from hf_finetune.report.scatter import Scatter, draw
from hf_finetune.report.wording.words import Plotted

MOST_PANELS = 4


def write_predictions(
    path: Path, split: str, names: Sequence[str], columns: Sequence[str], lines: Iterable[Sequence[str]]
) -> None:
    """One line a row: the split and the row's name, and what the task says of it (`Target.table`). What a spreadsheet
    would take for a formula is marked."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        heads = ("split", "row", *columns)
        writer.writerow([csv_cell("", head) for head in heads])
        for name, line in zip(names, lines, strict=True):
            writer.writerow([csv_cell(head, cell) for head, cell in zip(heads, (split, name, *line), strict=True)])


def scatter_of(plotted: Sequence[Plotted], columns: Sequence[str], lines: Sequence[Sequence[str]]) -> bytes | None:
    """A picture of the numbers that are drawn; None where there are none."""
    panels: list[Scatter] = []
    for each in plotted[:MOST_PANELS]:
        places = columns.index(each.true), columns.index(each.predicted)
        pairs = [(float(line[places[0]]), float(line[places[1]])) for line in lines if line[places[0]]]
        if pairs:
            true, predicted = zip(*pairs, strict=True)
            panels.append(Scatter(each.title, true, predicted, each.log))
    return draw(panels) if panels else None


def read_predictions(path: Path) -> list[dict[str, str]]:
    """The lines as dictionaries by column, without marks."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        heads = [text_of_cell("", head) for head in next(reader, [])]
        return [
            {head: text_of_cell(head, cell) for head, cell in zip(heads, line, strict=False)} for line in reader if line
        ]
