"""What was understood of the data, before anything is decoded: layout, columns, classes, splits, what is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hf_finetune.files.visible import one_line
from hf_finetune.labels import LabelColumn
from hf_finetune.report.tables import plain_table, terminal_width
from hf_finetune.types import SPLITS, Index, Split
from hf_finetune.units import format_quantity

_SHOWN = 5  # classes, and reasons why rows cannot be used


def render_data(index: Index, *, width: int | None = None, beside: Sequence[tuple[str, str]] = ()) -> str:
    """A table of name and value, `width` columns wide; None asks the terminal and keeps within 60 to 120. `beside`:
    further rows."""
    rows = [("data", f"{index.source} ({index.layout})" if index.layout else index.source)]
    rows += [_column_text(index, column) for column in index.columns]
    rows += [(split, _split_text(index, split)) for split in SPLITS]
    if index.rejected:
        reasons = [one_line(f"{row.name}: {row.reason}") for row in index.rejected[:_SHOWN]]
        more = f" and {len(index.rejected) - _SHOWN:,} more" if len(index.rejected) > _SHOWN else ""
        rows.append(("left out", f"{_rows(len(index.rejected))} ({'; '.join(reasons)}{more})"))
    rows += [("note" if number == 0 else "", str(note)) for number, note in enumerate(index.notes)]
    rows += beside
    return f"{plain_table(rows, width or terminal_width())}\n"


def data_as_dict(index: Index) -> dict[str, Any]:
    """The same for a program, with every name."""
    return {
        "name": index.source,
        "layout": index.layout,
        "columns": [{"name": each.name, "kind": each.kind, "names": list(each.names)} for each in index.columns],
        "rows": {split: len(index.splits.get(split, ())) for split in SPLITS},
        "cut": list(index.cut),
        "left_out": [{"name": row.name, "split": row.split, "reason": row.reason} for row in index.rejected],
        "notes": [str(note) for note in index.notes],
    }


def _column_text(index: Index, column: LabelColumn) -> tuple[str, str]:
    """`classes  6: cardboard, glass, …`, and of several targets which column has them."""
    at = f" from {column.name}" if len(index.columns) > 1 else ""
    more = f" and {len(column.names) - _SHOWN:,} more" if len(column.names) > _SHOWN else ""
    names = ", ".join(map(_shown, column.names[:_SHOWN])) + more
    if column.kind == "numbers":
        rows = [row.label for row in index.splits.get("train", ()) if not isinstance(row.label, int)]
        at = sum(each.width for each in index.columns[: index.columns.index(column)])
        known = [label[at] for label in rows if not math.isnan(label[at])]
        between = f", {format_quantity(min(known))} to {format_quantity(max(known))} in train" if known else ""
        return column.kind, names + (between if column.width == 1 else "")
    return column.kind, f"{len(column.names):,}{at}: {names}"


def _shown(name: str) -> str:
    """A class as it is; in quotes where blanks or commas would hide where it ends."""
    return repr(name) if name != name.strip() or "," in name or not name.isprintable() else name


def _split_text(index: Index, split: Split) -> str:
    size = len(index.splits.get(split, ()))
    if split in index.cut:
        return f"{_rows(size)}, cut from train"
    if split in index.own_names:
        own = index.own_names[split]
        return f"{_rows(size)}, given" + ("" if own == split else f" as {_shown(own)}")
    return f"{_rows(size)}" if size else "none"


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
