"""Tables: plain text for a terminal, and Markdown with every cell made harmless."""

from __future__ import annotations

import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence

from hf_finetune.files.visible import visible

_NARROWEST, _WIDEST = 40, 120  # columns; longer lines are hard to follow
_LEAST_ROOM = 24  # of the last column; with less each row is stacked
_LONGEST_CELL = 80
_BREAK = re.compile("[\t\n\x0b\x0c\r\x85\u2028\u2029]")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def terminal_width() -> int:
    """Columns to write, 40 to 120 whatever the terminal says."""
    return min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns))


def columns_of(text: str) -> int:
    """Terminal columns that `text` takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def plain_table(rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Left-aligned columns two spaces apart, the last one wrapped to `width` columns under itself.

    Where that leaves it too narrow, it goes below its row instead. A word (a path, a recipe's key) is never broken, so
    a line can come out longer.
    """
    fixed = [max(columns_of(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    indent = sum(fixed) + 2 * len(fixed)
    room = width - indent
    if room < _LEAST_ROOM and any(columns_of(row[-1]) > room for row in rows):
        return _stacked(rows, width)
    lines: list[str] = []
    for row in rows:
        start = "".join(cell + " " * (size - columns_of(cell) + 2) for cell, size in zip(row, fixed, strict=False))
        wrapped = textwrap.wrap(row[-1], room, break_on_hyphens=False, break_long_words=False) or [""]
        lines += [(start + wrapped[0]).rstrip(), *(" " * indent + rest for rest in wrapped[1:])]
    return "\n".join(lines)


def _stacked(rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Each row with its last column below it, indented."""
    lines: list[str] = []
    for row in rows:
        lines.append(wrapped("  ".join(cell for cell in row[:-1] if cell), width, indent="    "))
        lines += [f"    {line}" for line in wrapped(row[-1], width - 4).splitlines()]
    return "\n".join(line for line in lines if line.strip())


def wrapped(text: str, width: int, indent: str = "") -> str:
    """`text` in lines of `width` columns, all but the first indented. Words stay whole; a last line break stays."""
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines) + "\n" * text.endswith("\n")


def escape(text: str) -> str:
    """`text` as Markdown that shows it letter for letter in one table cell; over 80 characters it is cut."""
    flat = visible(" ".join(_BREAK.split(text)))
    if len(flat) > _LONGEST_CELL:
        flat = f"{flat[: _LONGEST_CELL - 1]}…"
    return _MARKUP.sub(r"\\\1", flat)


def escape_words(text: str) -> str:
    """As `escape`, of a sentence: its words are cut and not it, and it is one line."""
    return " ".join(map(escape, text.split()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """The first `texts` columns are text; the others are numbers, right-aligned. Cells are Markdown already."""
    rule = [":---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
