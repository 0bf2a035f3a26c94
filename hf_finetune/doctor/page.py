"""doctor.html: the findings with their images, on a page that can be sent to whoever knows the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hf_finetune.data.sources.source import count
from hf_finetune.doctor.everything import Everything
from hf_finetune.doctor.findings import Finding
from hf_finetune.doctor.words import Line
from hf_finetune.report.page.structure import Code, Gallery, Page, Section, Table, Thumb
from hf_finetune.report.page.thumbnails import thumbnail
from hf_finetune.report.references import without_paths
from hf_finetune.types import Note, Split

_MOST_SHOWN = 96  # images a kind; the table has all
_MOST_LISTED = 500  # lines of a table


def page(
    source: str, everything: Everything, lines: Sequence[Line], notes: Sequence[Note], scores: Sequence[str], next_: str
) -> Page:
    """`next_`: the command that trains with the corrections. Paths are cut to their last part, for the page travels."""
    total = len(everything.names)
    found = "; ".join(f"{line.about.heading}: {line.much}" for line in lines) or "nothing was found"
    sentence = f"Of {count(total, 'readable image')}: {found}."
    rows = tuple((line.about.heading, line.much, f"{line.excluded:,}", f"{len(line.findings):,}") for line in lines)
    table = Table("What was found", ("finding", "how much", "left out", "rows"), rows, texts=2)
    text = (*scores, *(without_paths(str(note)) for note in notes))
    short = Section("In short", text, (table,) if rows else ())
    thumb = _thumbs(everything)
    sections = [short, *(_section(line, thumb) for line in lines)]
    after = Section("What to do", _NEXT, (Code("Train without what is left out", without_paths(next_)),))
    return Page(f"Doctor: {without_paths(source)}", sentence, (*sections, after), footer="Made by hf-finetune doctor.")


_NEXT = (
    "findings.csv, beside this page, has every finding in a line: path, finding, score, action, label. Write exclude "
    "or relabel as its action where you agree, and the right label. No file of the dataset is ever changed: the table "
    "is what a recipe reads as data.corrections.",
)


def _section(line: Line, thumb: Callable[[Finding], Thumb]) -> Section:
    about = line.about
    explained = (about.meaning, line.much + ".")
    shown = line.findings[: _MOST_SHOWN if about.has_image else _MOST_LISTED]
    note = f"{len(line.findings) - len(shown):,} more are in findings.csv." if len(line.findings) > len(shown) else ""
    if not about.has_image:
        rows = tuple((each.path, each.split, without_paths(each.detail)) for each in shown)
        part = Table("Rows", ("row", "split", "why"), rows, 3, note)
    else:
        part = Gallery("Images", tuple(map(thumb, shown)), note)
    return Section(about.heading.capitalize(), explained, (part,))


def _thumbs(everything: Everything) -> Callable[[Finding], Thumb]:
    place: dict[tuple[Split, str], int] = {
        key: row for row, key in enumerate(zip(everything.split_of, everything.names, strict=True))
    }

    def thumb(finding: Finding) -> Thumb:
        pixels = everything.gather(np.array([place[finding.split, finding.path]]))[0]
        left = ("left out",) if finding.action == "exclude" else ()
        return Thumb(finding.path, thumbnail(pixels), (f"{finding.split}, {finding.given}", finding.detail, *left))

    return thumb
