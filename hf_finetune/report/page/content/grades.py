"""One of several grades a row: how far it is off."""

from __future__ import annotations

import numpy as np

from hf_finetune.report.page import charts
from hf_finetune.report.page.content.classes import MOST_MISTAKES, by_name, confusion, typical
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.structure import Part, Section, Table
from hf_finetune.report.page.texts import short


def grade_sections(evidence: Evidence, maker: Maker) -> tuple[Section, ...]:
    """Grades in their order; images by how far off they are."""
    grades = tuple(evidence.task["grades"])
    parts = (*confusion(evidence, grades, maker), _distances(evidence, maker))
    sections = [Section("How far it is off", (), parts)]
    sections.append(Section("By grade", (), by_name(evidence.score["per_class"], "grade")))
    if evidence.images is None:
        return (*sections, Section("Images", (evidence.no_images,))) if evidence.no_images else tuple(sections)
    place = {name: number for number, name in enumerate(grades)}
    true, predicted, sure = evidence.column("label"), evidence.column("predicted"), evidence.numbers("probability")
    off = np.array([place[said] - place[is_] for is_, said in zip(true, predicted, strict=True)])
    wrong = np.flatnonzero(off)
    order = wrong[np.lexsort((-sure[wrong], -np.abs(off[wrong])))][:MOST_MISTAKES]

    def lines(row: int) -> tuple[str, ...]:
        if not off[row]:
            return short(true[row], 60), f"{100 * sure[row]:.1f} %"
        return (
            f"is {short(true[row], 60)}",
            f"said {short(predicted[row], 60)}",
            f"{off[row]:+d}, {100 * sure[row]:.1f} %",
        )

    text = () if len(wrong) else (f"It made no mistake on the {len(true):,} images of {evidence.split}.",)
    note = "The farthest off first, and of those the surest."
    galleries = maker.gallery("Worst errors", evidence, order.tolist(), lines, note)
    galleries = (*galleries, *typical(evidence, grades, off == 0, sure, lines, maker, ("grade", "grades")))
    return (*sections, Section("Images", text, galleries))


def _distances(evidence: Evidence, maker: Maker) -> Part:
    """How many images are how many grades too low or too high."""
    counts = np.asarray(evidence.score["confusion"], np.int64)
    steps = [step for step in range(1 - len(counts), len(counts)) if np.trace(counts, step)]
    named = {f"{step:+d}" if step else "right": int(np.trace(counts, step)) for step in steps}
    total = int(counts.sum())
    rows = tuple((name, f"{count:,}", f"{100 * count / total:.1f} %") for name, count in named.items())
    table = Table("Images by how many grades they are off", ("grades off", "images", "share"), rows)
    caption = f"Grades too low (−) or too high (+), images of {evidence.split}"
    shown = {name.replace("-", "−"): float(count) for name, count in named.items()}
    return maker.chart(caption, lambda name: charts.bars(name, shown, label="images"), table)
