"""What was found, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_finetune.data.sources.source import count
from hf_finetune.doctor.words import Line
from hf_finetune.report.tables import plain_table, terminal_width, wrapped
from hf_finetune.types import Note


def render_findings(
    source: str,
    rows: int,
    lines: Sequence[Line],
    notes: Sequence[Note],
    scores: Sequence[str],
    files: Sequence[tuple[str, Path]],
    *,
    width: int | None = None,
) -> str:
    """A table of name and value, `width` columns wide; None asks the terminal. `files`: what was written, and where."""
    width = width or terminal_width()
    table = [("data", f"{source}, {count(rows, 'readable image')}")]
    table += [(line.about.heading, line.text) for line in lines]
    if not lines:
        table.append(("found", "nothing"))
    table += [("note" if number == 0 else "", str(note)) for number, note in enumerate(notes)]
    table += [("score" if number == 0 else "", text) for number, text in enumerate(scores)]
    table += [(what, str(path)) for what, path in files]
    parts = [plain_table(table, width)]
    excluded = len({each.path for line in lines for each in line.findings if each.action == "exclude"})
    if excluded:
        said = f"{count(excluded, 'row')} would be left out by data.corrections; the others wait for your word: edit "
        parts.append(wrapped(f"{said}action (keep, exclude, relabel) and label in the table.", width))
    return "\n\n".join(parts)
