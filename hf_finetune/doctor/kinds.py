"""The kinds of findings: in what order a person is told of them, under which heading, and what each means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "exact duplicate",
    "near duplicate",
    "suspected label",
    "placeholder",
    "unreadable",
    "no label",
    "unlike",
    "odd shape",
    "grey",
]


@dataclass(frozen=True)
class About:
    """`heading`: what was found; `meaning`: for a page. `copies`: rows are told by the image that they share; `harms`:
    a run names it at its end; `has_image`: there is a picture to show."""

    heading: str
    meaning: str
    copies: bool = False
    harms: bool = False
    has_image: bool = True


# What does most harm first.
KINDS: Mapping[Kind, About] = {
    "exact duplicate": About(
        "identical files",
        "The same file under several names. Of copies with one label all but one are left out, the test's being kept; "
        "of copies with different labels nobody knows which is right, and none is kept for training.",
        copies=True,
        harms=True,
    ),
    "near duplicate": About(
        "near duplicates",
        "The same picture, re-encoded, resized, cropped a little, mirrored or taken twice. Where they stand in "
        "different splits, a score on the test says too much.",
        copies=True,
        harms=True,
    ),
    "suspected label": About(
        "suspected labels",
        "A head that was not fitted on the row finds another label likelier than it usually is. Nothing is changed "
        "before you say so.",
        harms=True,
    ),
    "placeholder": About(
        "placeholders",
        "Nearly one colour: what a server shows instead of a photo, an empty page, a black frame.",
        harms=True,
    ),
    "unreadable": About("unreadable", "These cannot be decoded, and are left out.", has_image=False),
    "no label": About(
        "without a label", "These have no label, or one that is none of the classes, and are left out.", has_image=False
    ),
    "unlike": About(
        "unlike the others",
        "Furthest from their nearest neighbours, as the backbone sees them. They may be mistakes, or what makes the "
        "data worth having.",
    ),
    "odd shape": About("odd shapes", "Very small beside the others, or strips."),
    "grey": About("odd colours", "Few among many of the other kind: a model may learn that as a sign of their class."),
}
