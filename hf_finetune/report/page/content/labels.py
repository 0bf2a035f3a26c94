"""Any number of labels a row: each by itself, and which errors come together."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np

from hf_finetune.report.page.content.classes import MOST_MISTAKES, MOST_PAIRS, by_name
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.structure import Section, Table
from hf_finetune.report.page.texts import short
from hf_finetune.report.wording.labels import COLUMNS, LabelWords
from hf_finetune.report.wording.words import listed


def label_sections(evidence: Evidence, maker: Maker) -> tuple[Section, ...]:
    """The table of labels, errors that come together, and the images with most of them."""
    tables = by_name(evidence.score["per_label"], "label", COLUMNS, "average_precision")
    sections = [Section("By label", (LabelWords(evidence.task, evidence.outputs).thresholds(),), tables)]
    true, said, known = _sets(evidence)
    missed, extra = true & ~said & known, said & ~true & known
    if together := _together(evidence.outputs, missed, extra):
        sections.append(together)
    return (*sections, *_images(evidence, missed, extra, maker))


def _sets(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool [N, C]: labels that a row has, that it was given, and that are known of it."""
    names, cuts = evidence.outputs, evidence.task.get("thresholds") or (0.5,) * len(evidence.outputs)
    first = evidence.columns.index("predicted") + 1
    shares = np.array([[float(cell) for cell in line[first : first + len(names)]] for line in evidence.lines])
    said = shares.reshape(len(evidence.lines), len(names)) >= np.asarray(cuts)
    if evidence.labels is not None:
        return evidence.labels == 1, said, ~np.isnan(evidence.labels)
    given = evidence.column("labels")
    true = np.array([_holds(text, names) for text in given], bool).reshape(said.shape)
    return true, said, np.ones_like(said)


def _holds(text: str, names: tuple[str, ...]) -> list[bool]:
    """Which names a text of names with semicolons between them holds."""
    there = set(text.split("; "))
    return [name in there or ("; " in name and name in text) for name in names]


def _together(names: tuple[str, ...], missed: np.ndarray, extra: np.ndarray) -> Section | None:
    """Which label was given in whose place, most often first."""
    counts: Counter[tuple[int, int]] = Counter()
    for row in np.flatnonzero(missed.any(1) & extra.any(1)).tolist():
        counts.update(product(np.flatnonzero(missed[row]).tolist(), np.flatnonzero(extra[row]).tolist()))
    if not counts:
        return None
    rows = tuple((short(names[a]), short(names[b]), f"{n:,}") for (a, b), n in counts.most_common(MOST_PAIRS))
    table = Table("In one image", ("missed", "given though it is not there", "images"), rows, texts=2)
    return Section("Errors that come together", (), (table,))


def _images(evidence: Evidence, missed: np.ndarray, extra: np.ndarray, maker: Maker) -> tuple[Section, ...]:
    if evidence.images is None:
        return (Section("Images", (evidence.no_images,)),) if evidence.no_images else ()
    errors = missed.sum(1) + extra.sum(1)
    by_loss = np.zeros(len(errors)) if evidence.losses is None else evidence.losses
    order = np.lexsort((-by_loss, -errors))
    worst = [row for row in order.tolist() if errors[row]][:MOST_MISTAKES]

    def lines(row: int) -> tuple[str, ...]:
        parts = (("missed", missed[row]), ("wrongly given", extra[row]))
        return tuple(
            short(f"{what}: {listed([evidence.outputs[at] for at in np.flatnonzero(which)], 4)}", 120)
            for what, which in parts
            if which.any()
        )

    text = () if worst else (f"All labels of the {len(errors):,} images of {evidence.split} were told rightly.",)
    return (Section("Images", text, maker.gallery("Images with most errors", evidence, worst, lines)),)
