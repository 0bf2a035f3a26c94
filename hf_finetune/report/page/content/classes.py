"""One class a row: what is taken for what, each class, how sure is right, and images of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_finetune.report.page import charts
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.maker import Lines, Maker
from hf_finetune.report.page.structure import Gallery, Part, Section, Table
from hf_finetune.report.page.texts import short
from hf_finetune.report.wording.classes import COLUMNS

MOST_DRAWN = 20  # classes of a matrix that a person can read as a picture
MOST_PAIRS = 30
MOST_ROWS = 1_000  # of a table; run.json and `evaluate --json` have every class
MOST_UNFOLDED, WORST_SHOWN = 40, 20
MOST_MISTAKES, MOST_TYPICAL_CLASSES = 24, 30
_MANY_EACH, _FEW_EACH, _FEW_CLASSES = 4, 2, 10  # typical images of each class


def class_sections(evidence: Evidence, maker: Maker) -> tuple[Section, ...]:
    """In the order in which they are asked for."""
    parts = (*confusion(evidence, evidence.outputs, maker), *pairs_table(evidence.score))
    sections = [Section("What is taken for what", (), parts)] if parts else []
    sections += [Section("By class", (), by_name(evidence.score["per_class"], "class"))]
    sections += calibration(evidence, maker)
    sections += image_sections(evidence, evidence.outputs, maker)
    return tuple(sections)


def confusion(evidence: Evidence, names: Sequence[str], maker: Maker) -> tuple[Part, ...]:
    """A picture of the counts where there are few enough classes."""
    if "confusion" not in evidence.score or len(names) > MOST_DRAWN:
        return ()
    counts = np.asarray(evidence.score["confusion"], np.int64)
    rows = tuple((short(name), *(f"{n:,}" for n in row)) for name, row in zip(names, counts.tolist(), strict=True))
    caption = f"Images of {evidence.split} by what they are (down) and what was predicted (across)"
    table = Table(caption, ("true", *map(short, names)), rows)
    note = "A cell is the darker, the larger its share of the class."
    return (maker.chart(caption, lambda name: charts.matrix(name, names, counts), table, note),)


def pairs_table(score: Mapping[str, Any]) -> tuple[Table, ...]:
    """The mistakes that are made most often."""
    pairs = score.get("confused_pairs", ())[:MOST_PAIRS]
    rows = tuple((short(each["label"], 100), short(each["predicted"], 100), f"{each['count']:,}") for each in pairs)
    return (Table("Most often confused", ("is", "was taken for", "images"), rows, texts=2),) if rows else ()


def by_name(
    table: Mapping[str, Mapping[str, Any]], what: str, columns: Sequence[tuple[str, str]] = COLUMNS, first: str = "f1"
) -> tuple[Table, ...]:
    """A row for each class, grade or label, the worst first and those without an image last; of many the worst, and
    all of them folded."""
    order = sorted(table.items(), key=lambda entry: (entry[1]["support"] == 0, entry[1][first] or 0.0))
    rows = tuple(
        (short(name), *("" if row[key] is None else f"{row[key]:.3f}" for key, _ in columns), f"{row['support']:,}")
        for name, row in order[:MOST_ROWS]
    )
    heads = (what, *(name for _, name in columns), "images")
    if len(order) <= MOST_UNFOLDED:
        return (Table(f"Each {what}, the worst first", heads, rows),)
    more = len(order) - MOST_ROWS
    note = f"{more:,} more, all of them better than these or without an image, are not listed here." if more > 0 else ""
    worst = Table(f"The {WORST_SHOWN} worst of {len(order):,}", heads, rows[:WORST_SHOWN])
    return worst, Table(f"Each {what}, the worst first", heads, rows, note=note, folded=True)


def calibration(evidence: Evidence, maker: Maker) -> list[Section]:
    """How often it is right where it says how sure it is."""
    bins = evidence.score.get("calibration")
    if not bins:
        return []
    sure, right, rows = ([each[key] for each in bins] for key in ("confidence", "right", "rows"))
    cells = tuple(
        (f"{100 * each['confidence']:.1f} %", f"{100 * each['right']:.1f} %", f"{each['rows']:,}") for each in bins
    )
    table = Table("Images by the probability of their predicted class", ("mean probability", "right", "images"), cells)
    text = (
        f"Where it gives its answer a probability of 80 %, it should be right 80 % of the time. The mean distance from "
        f"that, over all {evidence.score['rows']:,} images, is its calibration error: {evidence.score['ece']:.3f}."
    )
    note = "On the line, a probability is what it says. The bars below show how many images each point stands for."
    draw = maker.chart(
        f"How often it is right, by the probability that it gave ({evidence.split})",
        lambda name: charts.reliability(name, sure, right, rows),
        table,
        note,
    )
    return [Section("Is it as sure as it should be?", (text,), (draw,))]


def image_sections(evidence: Evidence, names: Sequence[str], maker: Maker) -> list[Section]:
    """Mistakes, and images that it is right about."""
    if evidence.images is None:
        return [Section("Images", (evidence.no_images,))] if evidence.no_images else []
    true, predicted = np.array(evidence.column("label"), object), np.array(evidence.column("predicted"), object)
    sure = evidence.numbers("probability")
    wrong = np.flatnonzero(true != predicted)

    def lines(row: int) -> tuple[str, ...]:
        if true[row] == predicted[row]:
            return (short(true[row], 60), f"{100 * sure[row]:.1f} %")
        return (f"is {short(true[row], 60)}", f"taken for {short(predicted[row], 60)}", f"{100 * sure[row]:.1f} %")

    mistakes = _mistakes(evidence, wrong, sure, lines, maker)
    galleries = [*mistakes, *typical(evidence, names, true == predicted, sure, lines, maker)]
    text = () if len(wrong) else (f"It made no mistake on the {len(true):,} images of {evidence.split}.",)
    return [Section("Images", text, tuple(galleries))]


def _mistakes(evidence: Evidence, wrong: np.ndarray, sure: np.ndarray, lines: Lines, maker: Maker) -> list[Gallery]:
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
    found = [*maker.gallery("Mistakes that it was surest of", evidence, surest.tolist(), lines, "The surest first.")]
    if evidence.losses is None:
        return found
    worst = wrong[np.argsort(-evidence.losses[wrong], kind="stable")][:MOST_MISTAKES]
    other = [row for row in worst.tolist() if row not in set(surest.tolist())]
    note = "What each of them is had the least probability; those above are not shown again."
    return [*found, *maker.gallery("Worst errors", evidence, other, lines, note)]


def typical(
    evidence: Evidence,
    names: Sequence[str],
    right: np.ndarray,
    sure: np.ndarray,
    lines: Lines,
    maker: Maker,
    what: tuple[str, str] = ("class", "classes"),
) -> list[Gallery]:
    """The images of each class that it is surest of and right about."""
    true = evidence.column("label")
    table = evidence.score.get("per_class", {})
    there = [name for name in names if table.get(name, {}).get("support")]
    chosen = sorted(there, key=lambda name: table[name]["f1"])[:MOST_TYPICAL_CLASSES]
    kept = set(chosen)
    each = _MANY_EACH if len(names) <= _FEW_CLASSES else _FEW_EACH
    rows: dict[str, list[int]] = {name: [] for name in names if name in kept}
    for row in np.argsort(-sure, kind="stable").tolist():
        if right[row] and len(rows.get(true[row], [0] * each)) < each:
            rows[true[row]].append(row)
    note = "The images that it was surest of and right about."
    if len(there) > len(chosen):
        note += f" Of the {len(chosen)} {what[1]} that it does worst on, of {len(there):,}."
    shown = [row for found in rows.values() for row in found]
    return [*maker.gallery(f"Typical of each {what[0]}", evidence, shown, lines, note)]
