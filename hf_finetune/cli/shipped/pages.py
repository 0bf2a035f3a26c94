"""The pages that `hf-finetune docs` prints, and their sections by what is asked for."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hf_finetune.cli.shipped.files import shipped
from hf_finetune.errors import RecipeError

NAMES = ("cookbook", "tutorial", "recipe-keys", "python")
_FEW, _MOST_NAMED = 2, 8  # sections that are printed for a word in their text, and headings that are named else


@dataclass(frozen=True)
class Section:
    """A part of a page, its heading with it; of a whole page the heading is its title."""

    page: str
    heading: str
    text: str


@dataclass(frozen=True)
class Page:
    """A Markdown page by its topic's name."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """Its first heading."""
        return self.text.partition("\n")[0].lstrip("# ")

    @property
    def headings(self) -> list[str]:
        """Of its sections, in order."""
        return [section.heading for section in self.sections]

    @property
    def sections(self) -> list[Section]:
        """Cut before each `## ` outside code."""
        cut: list[list[str]] = []
        in_code = False
        for line in self.text.splitlines(keepends=True):
            in_code ^= line.startswith("```")
            if line.startswith("## ") and not in_code:
                cut.append([])
            if cut:
                cut[-1].append(line)
        return [Section(self.name, lines[0].lstrip("# ").strip(), "".join(lines)) for lines in cut]


def pages() -> list[Page]:
    """Those that are shipped. Raises RecipeError where none is there."""
    folder = shipped("docs")
    found = [Page(name, folder / f"{name}.md") for name in NAMES if (folder / f"{name}.md").is_file()]
    if not found:
        raise RecipeError(f"The pages are expected in {folder}, found none.", "Install the package anew.")
    return found


def find(topic: str) -> list[Section]:
    """The page of that name, else the sections whose heading has all of its words, else the few whose text has them.

    Raises RecipeError with the headings of many such, or with a close match.
    """
    known, wanted = pages(), topic.strip().lower().removesuffix(".md")
    for page in known:
        if wanted.replace(" ", "-") == page.name:
            return [Section(page.name, page.title, page.text)]
    sections = [section for page in known for section in page.sections]
    if exact := [each for each in sections if _words(each.heading) == _words(topic)]:
        return exact
    if having := [each for each in sections if set(_words(topic)) <= set(_words(each.heading))]:
        return having
    speaking = [each for each in sections if set(_words(topic)) <= set(_words(each.text))]
    if 0 < len(speaking) <= _FEW:
        return speaking
    if speaking:
        named = "; ".join(each.heading for each in speaking[:_MOST_NAMED])
        more = f"; and {len(speaking) - _MOST_NAMED} more" if len(speaking) > _MOST_NAMED else ""
        raise RecipeError(f"No section is called {topic!r}, {len(speaking)} speak of it.", f"{named}{more}")
    raise RecipeError(f"There is no topic {topic!r}.", _meant(topic, known, sections))


def render_topics() -> str:
    """Every page and its headings."""
    lines = ["hf-finetune docs TOPIC prints a page,", "or the sections with TOPIC in their headings.\n"]
    for page in pages():
        lines += [f"{page.name}: {page.title}", *(f"  {heading}" for heading in page.headings), ""]
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w&]+", text.lower())


def _meant(topic: str, known: list[Page], sections: list[Section]) -> str:
    """A name, a heading or a word of one that is close."""
    words = {word for each in sections for word in _words(each.heading) if len(word) > 2}
    names = {page.name for page in known} | words | {each.heading.lower() for each in sections}
    close = difflib.get_close_matches(topic.lower(), sorted(names), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "`hf-finetune docs` lists them."
