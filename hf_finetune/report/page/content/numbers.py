"""Numbers: predicted against true, what is left between them, and the images that are farthest off."""

from __future__ import annotations

import numpy as np

from hf_finetune.report.page import charts
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.structure import Gallery, Part, Section, Table
from hf_finetune.report.page.texts import short
from hf_finetune.units import format_quantity

MOST_NUMBERS = 8  # that are drawn
_WORST, _LISTED = 16, 20


def number_sections(evidence: Evidence, maker: Maker) -> tuple[Section, ...]:
    """A section a number."""
    plots = evidence.words.plotted()
    sections = [
        _of_one(evidence, each.title, each.true, each.predicted, maker, log=each.log) for each in plots[:MOST_NUMBERS]
    ]
    if len(plots) > MOST_NUMBERS:
        text = f"{len(plots) - MOST_NUMBERS:,} more numbers are in predictions.csv."
        sections.append(Section("More numbers", (text,)))
    if evidence.images is None and evidence.no_images:
        sections.append(Section("Images", (evidence.no_images,)))
    return tuple(sections)


def _of_one(evidence: Evidence, title: str, true_in: str, said_in: str, maker: Maker, *, log: bool) -> Section:
    true, said = evidence.numbers(true_in), evidence.numbers(said_in)
    known = np.flatnonzero(np.isfinite(true) & np.isfinite(said))
    if not len(known):
        return Section(title, (f"No image of {evidence.split} has it.",))
    true, said = true[known], said[known]
    log = log and bool((true > 0).all() and (said > 0).all())
    unit = evidence.task.get("unit") or ""
    left = said - true
    off = np.abs(np.log(said / true)) if log else np.abs(left)
    order = np.argsort(-off, kind="stable")

    def named(value: float) -> str:
        return f"{format_quantity(value)}{unit and ' '}{unit}"

    def lines(row: int) -> tuple[str, ...]:
        at = place[row]
        apart = f"{100 * (said[at] / true[at] - 1):+.0f} %" if log else f"{left[at]:+,.4g}{unit and ' '}{unit}"
        return f"is {named(true[at])}", f"said {named(said[at])}", apart

    place = {int(row): at for at, row in enumerate(known.tolist())}
    parts: list[Part] = [
        _scatter(evidence, title, (true, said), order, [evidence.names[row] for row in known.tolist()], maker, log=log),
        _left_over(evidence, title, left, unit, maker),
    ]
    note = "The farthest off first" + (", as a share of the true number." if log else ".")
    galleries: tuple[Gallery, ...] = maker.gallery(
        f"Worst errors: {title}", evidence, known[order[:_WORST]].tolist(), lines, note
    )
    return Section(title, (), (*parts, *galleries))


def _scatter(
    evidence: Evidence,
    title: str,
    numbers: tuple[np.ndarray, np.ndarray],
    worst: np.ndarray,
    names: list[str],
    maker: Maker,
    *,
    log: bool,
) -> Part:
    (true, said), unit = numbers, evidence.task.get("unit") or ""
    chosen = worst[:_LISTED]
    listed = zip(chosen.tolist(), true[chosen].tolist(), said[chosen].tolist(), strict=True)
    rows = tuple(
        (short(names[at]), format_quantity(is_), format_quantity(told), f"{told - is_:+,.4g}")
        for at, is_, told in listed
    )
    table = Table(f"The {len(rows)} images that are farthest off", ("image", "true", "predicted", "difference"), rows)
    note = "On the line, what is said is true."
    if len(true) > charts.MOST_POINTS:
        note += f" {charts.MOST_POINTS:,} of {len(true):,} images are drawn, evenly over all."
    caption = f"{title}: predicted against true ({evidence.split})"
    return maker.chart(caption, lambda name: charts.scatter(name, true, said, log=log, unit=unit), table, note)


def _left_over(evidence: Evidence, title: str, left: np.ndarray, unit: str, maker: Maker) -> Part:
    label = f"predicted − true{f' ({unit})' if unit else ''}"
    shares = (5, 25, 50, 75, 95)
    at = np.percentile(left, shares)
    rows = tuple((f"{share} % of images", f"{value:+,.4g}") for share, value in zip(shares, at, strict=True))
    caption = f"Differences that this share of images does not exceed{f', in {unit}' if unit else ''}"
    table = Table(caption, ("share", "difference"), rows)
    caption = f"{title}: what is left between predicted and true ({evidence.split})"
    return maker.chart(caption, lambda name: charts.histogram(name, left, label=label)[0], table)
