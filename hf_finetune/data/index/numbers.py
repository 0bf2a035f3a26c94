"""Labels that are numbers: read, refused row by row where they are none, and told apart from what no scale could hold.

A comma stands before a fraction where the column shows that; where all of its numbers have three digits behind it, as
`1,500`, it may stand between thousands as well, and they are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from hf_finetune.data.sources.cells import is_missing
from hf_finetune.data.sources.source import Cell, Cells, SourceRow, plain
from hf_finetune.types import Rejected, Split

# Interquartile ranges from the median, of the training rows: prices, areas and counts with long tails stay below a
# hundred; beyond a thousand a value is a typing error or a mark for "unknown", and alone decides the scale of all.
FAR = 1_000.0
NO_NUMBER = "no label"
Numbered = tuple[SourceRow, tuple[float, ...]]


def encode_numbers(
    found: Mapping[Split, Sequence[SourceRow]], width: int, *, log: bool
) -> tuple[dict[Split, list[Numbered]], list[Rejected]]:
    """Rows with `width` numbers, NaN where a cell is empty, and the rows that have none or what is no number; `log`:
    how far apart they are is told by their logarithms."""
    rows: dict[Split, list[Numbered]] = {}
    rejected: list[Rejected] = []
    commas = [
        commas_are_decimal(str(_cells(row)[place]) for its in found.values() for row in its) for place in range(width)
    ]
    for split, its in found.items():
        kept = rows[split] = []
        for row in its:
            numbers = [number_of(cell, comma=comma) for cell, comma in zip(_cells(row), commas, strict=True)]
            if wrong := [each for each in numbers if isinstance(each, str)]:
                rejected.append(Rejected(row.name, split, wrong[0]))
            elif all(math.isnan(each) for each in numbers if not isinstance(each, str)):
                rejected.append(Rejected(row.name, split, NO_NUMBER))
            else:
                kept.append((row, tuple(each for each in numbers if not isinstance(each, str))))
    for place in range(width):
        rejected += _far_away(rows, place, log=log)
    return rows, rejected


def _cells(row: SourceRow) -> tuple[Cell, ...]:
    return row.label if isinstance(row.label, Cells) else (row.label,)


def commas_are_decimal(texts: Iterable[str]) -> bool:
    """Whether the commas in a column of numbers stand before fractions, and not between thousands."""
    digits = [text.strip().partition(",")[2] for text in texts if re.fullmatch(r"\s*[-+]?[0-9]*,[0-9]+\s*", text)]
    return any(len(each) != 3 for each in digits)


def number_of(cell: Cell, *, comma: bool = False) -> float | str:
    """The number in a cell, NaN for an empty one, or why there is none. `comma`: one stands before fractions."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return float(cell)
    if is_missing(cell):
        return math.nan
    text = plain(str(cell)).strip()
    try:
        number = float(text.replace(",", ".") if comma else text)
    except ValueError:
        remedy = "; write a decimal point, and no comma between thousands" if "," in text else ""
        return f"{text!r} is no number{remedy}"
    return number if math.isfinite(number) else f"{text!r} is no finite number"


def _far_away(rows: dict[Split, list[Numbered]], place: int, *, log: bool) -> list[Rejected]:
    """Takes the rows out whose number lies beyond FAR."""
    known = sorted(_scale(numbers[place], log) for _, numbers in rows.get("train", ()))
    known = [each for each in known if math.isfinite(each)]
    if len(known) < 4:
        return []
    low, middle, high = (_quantile(known, share) for share in (0.25, 0.5, 0.75))
    reach = FAR * (high - low)
    found: list[Rejected] = []
    for split, its in rows.items() if reach > 0 else ():
        far = [abs(_scale(numbers[place], log) - middle) > reach for _, numbers in its]
        for (row, numbers), is_far in zip(its, far, strict=True):
            if is_far:
                reason = f"{numbers[place]:g} lies more than {FAR:,.0f} interquartile ranges from the median of train"
                found.append(Rejected(row.name, split, reason))
        if any(far):
            rows[split] = [each for each, is_far in zip(its, far, strict=True) if not is_far]
    return found


def _scale(number: float, log: bool) -> float:
    """What is compared; a number without a logarithm is left to the task, which refuses it by name."""
    if not log:
        return number
    return math.log(number) if number > 0 else math.nan


def _quantile(known: Sequence[float], share: float) -> float:
    at = share * (len(known) - 1)
    below = math.floor(at)
    above = min(below + 1, len(known) - 1)
    return known[below] + (at - below) * (known[above] - known[below])


def tenths(numbers: Iterable[float]) -> list[int]:
    """Which tenth of all each number is in, 0 to 9; those that are missing are in the last."""
    values = list(numbers)
    known = sorted(each for each in values if not math.isnan(each))
    edges = [_quantile(known, share / 10) for share in range(1, 10)] if known else []
    return [9 if math.isnan(each) else sum(each > edge for edge in edges) for each in values]
