"""Finished runs beside each other: scores, time, memory, what their recipes differ in, and whether scores differ.

Two runs that scored the same rows are compared row by row: the exact sign test on the rows that only one of them has
right (McNemar 1947). Accuracies with intervals alone would call most true differences unsure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.references import base_name, dataset_name, method
from hf_finetune.report.tables import plain_table, terminal_width
from hf_finetune.report.wording import Words, words_of
from hf_finetune.units import format_bytes, format_seconds

Predictions = Sequence[Mapping[str, str]]
_CHANCE = 0.05  # below it, a difference is called one


@dataclass(frozen=True)
class Finished:
    """A finished run: the name to show, its report, and the rows of its predictions.csv."""

    name: str
    report: RunReport
    predictions: Predictions


@dataclass(frozen=True)
class Pair:
    """Rows of the same test that only one of two runs has right, and how often chance alone would do as much."""

    only_first: int
    only_second: int
    rows: int

    @property
    def chance(self) -> float:
        """Two-sided exact sign test, 0 to 1."""
        total, least = self.only_first + self.only_second, min(self.only_first, self.only_second)
        return min(1.0, 2 * sum(comb(total, n) for n in range(least + 1)) / 2**total)


def pair(first: Predictions, second: Predictions, words: Words) -> Pair | None:
    """None where the two did not score the same rows with the same labels."""
    errors = [{_scored(row): words.error(row) for row in each} for each in (first, second)]
    if not errors[0] or errors[0].keys() != errors[1].keys():
        return None
    apart = [error - errors[1][key] for key, error in errors[0].items()]
    return Pair(sum(each < 0 for each in apart), sum(each > 0 for each in apart), len(apart))


def _scored(row: Mapping[str, str]) -> tuple[str, ...]:
    """The row and what is true of it."""
    return tuple(value for key, value in row.items() if key in ("split", "row", "labels") or key.endswith("label"))


def in_order(runs: Sequence[Finished]) -> list[Finished]:
    """The best first, by the test's first metric, or validation's where a run has no test."""

    def value(run: Finished) -> float:
        return float((run.report.test or run.report.validation)[words_of(run.report).first.key])

    return sorted(runs, key=value, reverse=True)


def render_runs(runs: Sequence[Finished], *, width: int | None = None) -> str:
    """A table with the best run first, its differences to the others in recipe and in rows, in plain text."""
    width = width or terminal_width()
    ordered = in_order(runs)
    rows = [("run", "test", "valid.", "time", "memory", "what")]
    several = len({run.report.task["kind"] for run in ordered}) > 1
    for run in ordered:
        report = run.report
        first = words_of(report).first
        named = f" {first.name}" if several else ""
        test = f"{first.text(report.test[first.key])}{named}" if report.test else "-"
        peak = report.peak_bytes["anonymous" if report.machine["device"] == "cpu" else "device"]
        rows.append(
            (
                run.name,
                test,
                first.text(report.validation[first.key]),
                format_seconds(report.seconds["total"]),
                format_bytes(peak),
                f"{method(report)}: {base_name(report)} on {dataset_name(report)}",
            )
        )
    lines = [plain_table(rows, width), "", f"{ordered[0].name} beside the others:"]
    best = ordered[0]
    beside = [(run.name, f"{_difference(best, run)} {_recipes(best, run)}") for run in ordered[1:]]
    return "\n".join([*lines, plain_table(beside, width)]) + "\n" if beside else f"{lines[0]}\n"


def _difference(best: Finished, other: Finished) -> str:
    words = words_of(best.report)
    same = words.task["kind"] == words_of(other.report).task["kind"]
    found = pair(best.predictions, other.predictions, words) if same else None
    if found is None:
        return "scored on other rows: their scores do not say which is better."
    if found.only_first + found.only_second == 0:
        return f"right and wrong on the same of {found.rows:,} rows."
    sure = "a difference" if found.chance < _CHANCE else "no sure difference"
    return (
        f"{best.name} alone {words.better} on {found.only_first:,} of {found.rows:,} rows, {other.name} alone on "
        f"{found.only_second:,}: {sure} (p = {found.chance:.2g})."
    )


def _recipes(best: Finished, other: Finished) -> str:
    """What the two recipes differ in, but for where they write."""
    ours, theirs = _flat(best.report.recipe), _flat(other.report.recipe)
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and not key.startswith("output.")]
    if not keys:
        return "Same recipe."
    return "Recipe: " + ", ".join(f"{key} {_shown(ours, key)} against {_shown(theirs, key)}" for key in keys) + "."


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, values in recipe.items():
        if isinstance(values, Mapping):
            found |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            found[section] = values
    return found


def _shown(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, "unset")
    return "null" if value is None else str(value)
