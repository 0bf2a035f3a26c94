"""The columns of a table of answers, and what a CSV's cells must look like so that no spreadsheet runs them.

Does not own what an answer holds (`tasks/predictions.py`) nor files (`output.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Cell = str | float | bool | None
PATH, ERROR = "path", "error"
# Beside those of the answer itself.
OWN = (PATH, "unlike", "distance", "explained", ERROR)
# What a spreadsheet takes for the beginning of a formula; and such text with marks before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKED = re.compile(r"'*[=+@\t\r\n-]")


def columns_of(answer: Sequence[str], *, explained: bool) -> tuple[str, ...]:
    """`path`, the answer's own (see `own_names`), `unlike`, `distance`, `explained` where asked for, `error`."""
    return (PATH, *own_names(answer), "unlike", "distance", *(["explained"] if explained else []), ERROR)


def own_names(answer: Sequence[str]) -> tuple[str, ...]:
    """The answer's columns; a number that is called like one of ours (`distance`) is `predicted distance`."""
    return tuple(f"predicted {name}" if name in OWN else name for name in answer)


def csv_cell(column: str, value: Cell) -> str:
    """The text of a cell. True and false as `true` and `false`, nothing for None.

    Text that a spreadsheet would take for a formula has an apostrophe before it, as spreadsheets themselves mark text;
    a path gets `./` instead, with which it still names its file. A plain number is none, whatever it begins with.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if column == PATH:
        return f"./{value}" if value.startswith(_FORMULA) and not _is_number(value) else value
    return f"'{value}" if _MARKED.match(value) and not _is_number(value) else value


def text_of_cell(column: str, cell: str) -> str:
    """The text that `csv_cell` made the cell of."""
    mark = "./" if column == PATH else "'"
    text = cell.removeprefix(mark)
    return text if (text.startswith(_FORMULA) if column == PATH else _MARKED.match(text)) else cell


def printable(text: str) -> str:
    """Bytes of a file name that are no UTF-8 become `\\udcXX`, so that the name can be written."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def row_of(columns: Sequence[str], cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """All columns in their order; text as it can be written."""
    return {name: printable(value) if isinstance(value := cells.get(name), str) else value for name in columns}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and not text[0].isspace()
