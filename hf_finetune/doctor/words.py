"""What is said of findings, in a terminal, on the page and at the end of a run: a line a kind, what does most harm
first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_finetune.data.sources.source import count, listing
from hf_finetune.doctor.findings import KINDS, Finding, Kind

_NAMED = 3  # rows that a line names


@dataclass(frozen=True)
class Line:
    """`what` was found, as a heading; `text`: how many rows, and some of their names; `findings`: all of them."""

    kind: Kind
    what: str
    text: str
    findings: tuple[Finding, ...]

    @property
    def excluded(self) -> int:
        """How many rows are left out for it."""
        return len({each.path for each in self.findings if each.action == "exclude"})


_WHAT: dict[Kind, str] = {
    "exact duplicate": "identical files",
    "near duplicate": "near duplicates",
    "suspected label": "suspected labels",
    "placeholder": "placeholders",
    "unreadable": "unreadable",
    "no label": "without a label",
    "unlike": "unlike the others",
    "odd shape": "odd shapes",
    "grey": "odd colours",
}
_COPIES: tuple[Kind, ...] = ("exact duplicate", "near duplicate")


def lines(findings: Sequence[Finding]) -> list[Line]:
    """A line for each kind that was found."""
    found = []
    for kind in KINDS:
        own = tuple(each for each in findings if each.kind == kind)
        if own:
            found.append(Line(kind, _WHAT[kind], _copies(own) if kind in _COPIES else _rows(own), own))
    return found


def _rows(findings: Sequence[Finding]) -> str:
    return f"{count(len(findings), 'row')}: {listing(_shown(each.path) for each in findings[:_NAMED])}{_more(findings)}"


def _more(findings: Sequence[Finding]) -> str:
    return f" and {len(findings) - _NAMED:,} more" if len(findings) > _NAMED else ""


def _copies(findings: Sequence[Finding]) -> str:
    """`3 images in 6 rows, 2 of them in several splits, 3 under several labels: …`."""
    groups = {each.group: each for each in findings}
    text = f"{count(len(groups), 'image')} in {count(len(findings), 'row')}"
    crossing = [
        (sum("splits" in each.crosses for each in groups.values()), "in more than one split"),
        (sum("labels" in each.crosses for each in groups.values()), "under different labels"),
    ]
    text += "".join(f", {number:,} {where}" for number, where in crossing if number)
    worst = min(findings, key=lambda each: (-len(each.crosses), -each.score, each.path))
    return f"{text}: {' = '.join(map(_shown, (worst.path, *worst.others)[:_NAMED]))}"


def _shown(name: str) -> str:
    """A name as it is; in quotes where it would end in the wrong place."""
    return name if name.isprintable() and name == name.strip() and "," not in name else repr(name)


def worst(findings: Iterable[Finding], most: int) -> list[str]:
    """The kinds that do harm, as lines of text, what does most first: `near duplicates: …`."""
    harmful: tuple[Kind, ...] = ("exact duplicate", "near duplicate", "suspected label", "placeholder")
    told = [each for each in findings if each.kind in harmful and (each.kind != "near duplicate" or each.crosses)]
    return [f"{line.what}: {line.text}" for line in lines(told)[:most]]
