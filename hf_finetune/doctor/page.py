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
from hf_finetune.types import Note, Split

_MOST_SHOWN = 96  # images a kind; the table has all
_MOST_LISTED = 500  # lines of a table
_WITHOUT_IMAGES = ("unreadable", "no label")
_EXPLAINED = {
    "exact duplicate": "The same file under several names. Of copies with one label all but one are left out, the "
    "test's being kept; of copies with different labels nobody knows which is right, and none is kept for training.",
    "near duplicate": "The same picture, re-encoded, resized, cropped a little, mirrored or taken twice. Where they "
    "stand in different splits, a score on the test says too much.",
    "suspected label": "A head that was not fitted on the row finds another label likelier than it usually is. Nothing "
    "is changed before you say so.",
    "placeholder": "Nearly one colour: what a server shows instead of a photo, an empty page, a black frame.",
    "unlike": "Furthest from their nearest neighbours, as the backbone sees them. They may be mistakes, or what makes "
    "the data worth having.",
    "odd shape": "Very small beside the others, or strips.",
    "grey": "Few among many of the other kind: a model may learn that as a sign of their class.",
    "unreadable": "These cannot be decoded, and are left out.",
    "no label": "These have no label, or one that is none of the classes, and are left out.",
}


def page(
    source: str, everything: Everything, lines: Sequence[Line], notes: Sequence[Note], scores: Sequence[str], next_: str
) -> Page:
    """`next_`: the command that trains with the corrections."""
    total = len(everything.names)
    found = "; ".join(f"{line.what}: {line.text.partition(':')[0]}" for line in lines) or "nothing was found"
    sentence = f"Of {count(total, 'readable image')}: {found}."
    rows = tuple(
        (line.what, line.text.partition(":")[0], f"{line.excluded:,}", f"{len(line.findings):,}") for line in lines
    )
    table = Table("What was found", ("finding", "how much", "left out", "rows"), rows, texts=2)
    text = (*scores, *map(str, notes))
    short = Section("In short", text, (table,) if rows else ())
    thumb = _thumbs(everything)
    sections = [short, *(_section(line, thumb) for line in lines)]
    after = Section("What to do", _NEXT, (Code("Train without what is left out", next_),))
    return Page(f"Doctor: {source}", sentence, (*sections, after), footer="Made by hf-finetune doctor.")


_NEXT = (
    "findings.csv, beside this page, has every finding in a line: path, finding, score, action, label. Write exclude "
    "or relabel as its action where you agree, and the right label. No file of the dataset is ever changed: the table "
    "is what a recipe reads as data.corrections.",
)


def _section(line: Line, thumb: Callable[[Finding], Thumb]) -> Section:
    explained = (_EXPLAINED[line.kind], line.text.partition(":")[0] + ".")
    without = line.kind in _WITHOUT_IMAGES
    shown = line.findings[: _MOST_LISTED if without else _MOST_SHOWN]
    note = f"{len(line.findings) - len(shown):,} more are in findings.csv." if len(line.findings) > len(shown) else ""
    if without:
        rows = tuple((each.path, each.split, each.detail) for each in shown)
        part = Table("Rows", ("row", "split", "why"), rows, 3, note)
    else:
        part = Gallery("Images", tuple(map(thumb, shown)), note)
    return Section(line.what.capitalize(), explained, (part,))


def _thumbs(everything: Everything) -> Callable[[Finding], Thumb]:
    place: dict[tuple[Split, str], int] = {
        key: row for row, key in enumerate(zip(everything.split_of, everything.names, strict=True))
    }

    def thumb(finding: Finding) -> Thumb:
        pixels = everything.gather(np.array([place[finding.split, finding.path]]))[0]
        left = ("left out",) if finding.action == "exclude" else ()
        return Thumb(finding.path, thumbnail(pixels), (f"{finding.split}, {finding.given}", finding.detail, *left))

    return thumb
