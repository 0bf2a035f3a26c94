"""What is said of findings, in a terminal, on the page and at the end of a run: a line a kind, what does most harm
first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_finetune.data.sources.source import count, listing
from hf_finetune.doctor.findings import Finding
from hf_finetune.doctor.kinds import KINDS, About

_NAMED = 3  # rows that a line names


@dataclass(frozen=True)
class Line:
    """What was found of one kind: how `much` of it, `some` of the rows' names, and all `findings`."""

    about: About
    much: str
    some: str
    findings: tuple[Finding, ...]

    @property
    def text(self) -> str:
        """`2 rows: a.jpg, b.jpg`."""
        return f"{self.much}: {self.some}"

    @property
    def excluded(self) -> int:
        """How many rows are left out for it."""
        return len({each.path for each in self.findings if each.action == "exclude"})


def lines(findings: Sequence[Finding]) -> list[Line]:
    """A line for each kind that was found."""
    found = []
    for kind, about in KINDS.items():
        own = tuple(each for each in findings if each.kind == kind)
        if own:
            found.append(Line(about, *(_copies(own) if about.copies else _rows(own)), own))
    return found


def _rows(findings: Sequence[Finding]) -> tuple[str, str]:
    return count(len(findings), "row"), listing((_shown(each.path) for each in findings), _NAMED)


def _copies(findings: Sequence[Finding]) -> tuple[str, str]:
    """`3 images in 6 rows, 2 in more than one split, 3 under different labels`, and one of them."""
    groups = {each.group: each for each in findings}
    text = f"{count(len(groups), 'image')} in {count(len(findings), 'row')}"
    crossing = [
        (sum("splits" in each.crosses for each in groups.values()), "in more than one split"),
        (sum("labels" in each.crosses for each in groups.values()), "under different labels"),
    ]
    text += "".join(f", {number:,} {where}" for number, where in crossing if number)
    worst = min(findings, key=lambda each: (-len(each.crosses), -each.score, each.path))
    return text, " = ".join(map(_shown, (worst.path, *worst.others)[:_NAMED]))


def _shown(name: str) -> str:
    """A name as it is; in quotes where it would end in the wrong place."""
    return name if name.isprintable() and name == name.strip() and "," not in name else repr(name)


def worst(findings: Iterable[Finding], most: int) -> list[str]:
    """The kinds that do harm, as lines of text, what does most first: `near duplicates: …`."""
    told = [each for each in findings if KINDS[each.kind].harms and (each.kind != "near duplicate" or each.crosses)]
    return [f"{line.about.heading}: {line.text}" for line in lines(told)[:most]]
