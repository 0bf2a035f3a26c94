"""A page with one of everything, and with names of the awkward kind everywhere."""

from __future__ import annotations

import numpy as np

from hf_finetune.report.page import charts
from hf_finetune.report.page.structure import Code, Figure, Gallery, Page, Section, Table, Thumb
from hf_finetune.report.page.thumbnails import thumbnail

NAMES = (
    "<b>bold</b>",
    "</style><script>alert(1)</script>",
    "$5 & $6",
    'quote " \' id="x"',
    "{{ 7 * 7 }}",
    "a, b",
    "line\nbreak\r\n\tand tab",
    "שלום \u202eevil\u202c",
    "漢字 🐝",
    "n/a",
    "half \ud83d pair \x00 \x1b[31m",
    "w" * 200,
)


def thumbs(count: int, side: int = 120) -> tuple[Thumb, ...]:
    """Noise: of all images the largest as JPEG."""
    rng = np.random.default_rng(0)
    uris = [thumbnail(rng.integers(0, 256, (3, side, side), dtype=np.uint8)) for _ in range(min(count, 40))]
    return tuple(Thumb(NAMES[n % len(NAMES)], uris[n % len(uris)], ("true a", "predicted b")) for n in range(count))


def example_page(images: int = 12) -> Page:
    """One of everything."""
    counts = np.arange(len(NAMES) ** 2).reshape(len(NAMES), -1) % 7
    table = Table("By class", ("class", "images"), tuple((name, str(n)) for n, name in enumerate(NAMES)))
    figures = (
        Figure("Confusion", charts.matrix("matrix", NAMES, counts), table),
        Figure("Memory", charts.bars("bars", dict.fromkeys(NAMES, 2.0), label="MB", marks={NAMES[0]: 1.0}), table),
        Figure(
            "Scores",
            charts.lines("lines", {NAMES[0]: ([1, 2], [0.5, 0.6])}, across="s", up="F1", points={NAMES[1]: (0, 0.4)}),
            table,
        ),
        Figure("Numbers", charts.scatter("scatter", np.arange(1, 9.0), np.arange(2, 10.0), log=True, unit="$"), table),
        Figure("Calibration", charts.reliability("reliability", [0.4, 0.9], [0.5, 0.8], [3, 9]), table),
    )
    return Page(
        f"A page: {NAMES[0]}",
        f"Accuracy of {NAMES[1]}",
        (
            Section("In short", (NAMES[6], NAMES[10]), (table,)),
            Section("Pictures", (), figures),
            Section("Images", (), (Gallery("Mistakes", thumbs(images)),), (Section("Within", (NAMES[1],)),)),
            Section("Again", (), (Code("The command", "one\n<two>\x00"), Code("The recipe", NAMES[1], folded=True))),
        ),
        (f"A notice with {NAMES[1]}",),
        "made for a test",
    )
