"""Everything that is found about a dataset's rows and about the whole, from what was decoded and passed over once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hf_finetune.data.index.labels import NO_LABEL
from hf_finetune.data.index.together import join
from hf_finetune.data.sources.source import listing
from hf_finetune.doctor import copies, overview, plain, suspects
from hf_finetune.doctor.everything import Everything
from hf_finetune.doctor.findings import Finding, in_order
from hf_finetune.doctor.kinds import Kind
from hf_finetune.doctor.looks import Looks, look_at
from hf_finetune.doctor.unlike import Directions, neighbours
from hf_finetune.labels import Answers
from hf_finetune.types import Note, Rejected, Split

# Pixels of the shorter edge below which copies are not looked for: handwritten digits of 8 × 8 are all alike.
_LEAST_EDGE = 32
NO_SHARP = Note(
    "near duplicates are not looked for: the decoded images are too small to tell, and the files were removed once "
    "they were decoded"
)
_UNLIKE, _MOST_UNLIKE = 2.0, 0.01  # robust standard deviations, and the share of rows that is told at most
# Score from which a suspected label is dropped where that is asked for: of 5 % flips in TrashNet's training labels (12
# seeds) .95 dropped 79 rows, 56 of them flips, and accuracy on test rose as much as without exactly the flips (.010 on
# the mean); dropping all suspects, 116 rows, gave .006.
_SURE = 0.95
_LIKELIEST = 5  # rows that a detail names


@dataclass(frozen=True)
class Wishes:
    """What is to be left out beyond unreadable rows and exact copies: suspected labels, copies across splits."""

    labels: Literal["keep", "drop"] = "keep"
    copies: Literal["keep", "drop"] = "keep"


@dataclass(frozen=True)
class Examination:
    """`findings` in the order to be told; `notes` on the whole; `leaked`: test rows with a copy in another split."""

    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    leaked: frozenset[str]


def examine(everything: Everything, unreadable: Iterable[Rejected], wishes: Wishes) -> Examination:
    """`unreadable`: rows of the index or the store that cannot be used."""
    looks = Looks.joined([look_at(everything.rows[split]) for split in everything.splits])
    empty = plain.placeholders(looks.entropy)
    features = [everything.features[split] for split in everything.splits]
    beside = neighbours(Directions.of(features), everything.classes)
    found = [
        *_unreadable(unreadable),
        *_copies(everything, looks, wishes),
        *_placeholders(everything, looks, empty),
        *_shapes(everything, looks, empty),
        *_suspects(everything, wishes),
    ]
    told = {each.path for each in found if each.kind in ("placeholder", "exact duplicate")}
    found += [each for each in _unlike(everything, beside.distance) if each.path not in told]
    notes = [
        *([] if everything.has_sharp else [NO_SHARP]),
        *overview.imbalance(everything),
        *(note for column in everything.index.columns for note in overview.alike_names(column.names)),
        *overview.groups(everything, beside.nearest),
    ]
    return Examination(tuple(in_order(found)), tuple(notes), leaked_into_test(found))


def of_pictures(everything: Everything, looks: Looks, wishes: Wishes) -> list[Finding]:
    """What pixels alone tell: copies and placeholders."""
    empty = plain.placeholders(looks.entropy)
    return [*_copies(everything, looks, wishes), *_placeholders(everything, looks, empty)]


def leaked_into_test(findings: Iterable[Finding]) -> frozenset[str]:
    """Test rows with a copy in another split."""
    return frozenset(each.path for each in findings if each.split == "test" and "splits" in each.crosses)


def suspected(everything: Everything, split: Split, rows: np.ndarray, answers: Answers) -> list[Finding]:
    """Labels of `rows` int64 [n] of the split that are likely wrong, by answers to them."""
    start, labels = everything.start_of(split), np.asarray(everything.rows[split].labels)[rows]
    return [
        replace(
            _about(everything, start + int(rows[each.row]), "suspected label", each.score, each.detail),
            label=each.label,
        )
        for each in suspects.suspects(everything.target, answers, labels)
    ]


def _unreadable(rows: Iterable[Rejected]) -> Iterable[Finding]:
    for row in rows:
        kind = "no label" if row.reason == NO_LABEL else "unreadable"
        yield Finding(row.name, row.split, "", kind, 1.0, row.reason, "exclude")


def _copies(everything: Everything, looks: Looks, wishes: Wishes) -> list[Finding]:
    """Copies of one image, exact ones first; those of one group share a number."""
    equal = copies.equal_pictures(looks.grey, everything.gather)
    exact = [group for rows in equal for group in _byte_equal(everything, rows)]
    left_out = everything.sizes.min(1) < _LEAST_EDGE
    scores: dict[int, float] = {}
    near: list[tuple[int, int]] = []
    for rows in equal:
        left_out[rows[1:]] = True
        near += [(rows[0], row) for row in rows[1:] if not any({rows[0], row} <= set(group) for group in exact)]
    scores.update({row: 1.0 for pair in near for row in pair})
    mirrored: set[int] = set()
    pairs = copies.near_pairs(looks.grey, everything.sharp, left_out) if everything.has_sharp else []
    for pair in pairs:
        near.append((pair.first, pair.second))
        for row in (pair.first, pair.second):
            scores[row] = max(scores.get(row, 0.0), pair.score)
        if pair.mirrored:
            mirrored.add(pair.second)
    found = []
    for number, rows in enumerate(exact):
        found += _group(everything, rows, number, "exact duplicate", dict.fromkeys(rows, 1.0), set(), drop=True)
    drop = wishes.copies == "drop"
    for number, rows in enumerate(join([*near, *exact]), len(exact)):
        if not any(set(rows) <= set(group) for group in exact):
            found += _group(everything, rows, number, "near duplicate", scores, mirrored, drop=drop)
    return found


def _byte_equal(everything: Everything, rows: Sequence[int]) -> list[list[int]]:
    """Of rows with equal pixels those whose files are equal, two or more together."""
    by_content: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row in rows:
        by_content[everything.content(row)].append(row)
    return [group for group in by_content.values() if len(group) > 1]


def _group(
    everything: Everything,
    rows: Sequence[int],
    number: int,
    kind: Literal["exact duplicate", "near duplicate"],
    scores: dict[int, float],
    mirrored: set[int],
    *,
    drop: bool,
) -> list[Finding]:
    splits: list[Split] = [everything.split_of[row] for row in rows]
    labels = [everything.given[row] for row in rows]
    crosses = (*(["splits"] if len(set(splits)) > 1 else []), *(["labels"] if len(set(labels)) > 1 else []))
    excluded = _superfluous(splits, labels) if drop and (kind == "exact duplicate" or "splits" in crosses) else set()
    what = "the same file as" if kind == "exact duplicate" else "nearly the same image as"
    found = []
    for place, row in enumerate(rows):
        others = [everything.names[other] for other in rows if other != row]
        told = [
            f"{everything.names[other]} ({everything.split_of[other]}, {everything.given[other]})"
            for other in rows
            if other != row
        ]
        flip = ", mirrored" if row in mirrored else ""
        found.append(
            Finding(
                everything.names[row],
                everything.split_of[row],
                everything.given[row],
                kind,
                scores.get(row, 1.0),
                f"{what} {listing(told, _LIKELIEST)}{flip}",
                "exclude" if place in excluded else "keep",
                others=tuple(others),
                group=number,
                crosses=crosses,
            )
        )
    return found


def _superfluous(splits: Sequence[Split], labels: Sequence[str]) -> set[int]:
    """Which copies of one image are left out: all but one, which is the test's where it has one, so that a published
    test stays what it was. Of copies under several labels none is known to be right: only a test's only copy stays."""
    by_worth = sorted(range(len(splits)), key=lambda place: ("test", "validation", "train").index(splits[place]))
    if len(set(labels)) == 1:
        return set(by_worth[1:])
    tested = [place for place in by_worth if splits[place] == "test"]
    return set(by_worth) - (set(tested) if len({labels[place] for place in tested}) == 1 else set())


def _placeholders(everything: Everything, looks: Looks, empty: np.ndarray) -> Iterable[Finding]:
    for row in np.flatnonzero(empty):
        bits = float(looks.entropy[row])
        detail = f"nearly one colour ({bits:.1f} bits): a placeholder, an empty page, or a black frame?"
        yield _about(everything, int(row), "placeholder", 1 - bits / 8, detail)


def _shapes(everything: Everything, looks: Looks, empty: np.ndarray) -> Iterable[Finding]:
    least_edge = min(everything.preprocess.height, everything.preprocess.width)
    for row, detail in plain.odd_shapes(everything.sizes, least_edge).items():
        yield _about(everything, row, "odd shape", 1.0, detail)
    rows, detail = plain.odd_colours(looks.colour)
    for row in rows[~empty[rows]].tolist():
        yield _about(everything, row, "grey", 1.0, detail)


def _suspects(everything: Everything, wishes: Wishes) -> Iterable[Finding]:
    for split, answers in everything.answers.items():
        # What a test says is not changed because a model disagrees with it.
        drops = wishes.labels == "drop" and split == "train"
        for found in suspected(everything, split, np.arange(len(answers)), answers):
            yield replace(found, action="exclude" if drops and found.score >= _SURE else "keep")


def _unlike(everything: Everything, far: np.ndarray) -> Iterable[Finding]:
    if not np.isfinite(far).all():
        return
    middle = np.median(far)
    spread = 1.4826 * np.median(np.abs(far - middle))
    off = (far - middle) / spread if spread > 0 else np.zeros(len(far))
    most = max(1, int(_MOST_UNLIKE * len(far)))
    for row in np.argsort(-off, kind="stable")[:most].tolist():
        if off[row] >= _UNLIKE:
            yield _about(everything, row, "unlike", float(min(1.0, far[row])), "unlike all other images")


def _about(everything: Everything, row: int, kind: Kind, score: float, detail: str) -> Finding:
    return Finding(everything.names[row], everything.split_of[row], everything.given[row], kind, score, detail)
