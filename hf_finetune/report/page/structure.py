"""What a page is made of, before it is HTML. Plain values only: a program can read them, and a test can compare them.

Texts are plain, never markup: `render` escapes every one of them. A section's parts appear in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """`rows` of cells under `columns` (no heads where empty). The first cell of a row is its head; the first `texts`
    columns are text, the others numbers, aligned on the right. `folded`: closed until a reader opens it."""

    kind: ClassVar[str] = "table"

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture as inline SVG (`charts.py`), what it shows in a sentence, and the table of the same numbers."""

    kind: ClassVar[str] = "figure"

    caption: str
    svg: str
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Thumb:
    """A small image: what it is called, the image as a data URI (`thumbnails.py`), and lines below it."""

    caption: str
    uri: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Small images, the most telling first: where a page grows too large, the last ones go (`fitting.py`). `wide`: two
    of them stand side by side in each."""

    kind: ClassVar[str] = "gallery"

    caption: str
    thumbs: tuple[Thumb, ...]
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Code:
    """Text to copy or to read as it is: a command, a recipe."""

    kind: ClassVar[str] = "code"

    caption: str
    text: str
    folded: bool = False


Part = Table | Figure | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs below it, parts in their order, and sections within it (one level deep)."""

    heading: str
    text: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Page:
    """`sentence`: what a reader who reads one sentence should know. `notices`: what limits all that is said here.
    `footer`: who made the page, and of what."""

    title: str
    sentence: str
    sections: tuple[Section, ...]
    notices: tuple[str, ...] = ()
    footer: str = ""
