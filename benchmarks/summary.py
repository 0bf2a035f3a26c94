"""Every case beside every other: one row a method, accuracy and seconds, the best accuracy of a case in bold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cases import CASES
from methods import METHODS
from results import Results

SEEDS = 3  # a method's; fewer are said


def summary(results: Results) -> list[str]:
    """A Markdown table of mean test accuracy and median seconds to saved; none for a single case."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in results.runs:
        found.setdefault((row["method"], row["case"]), []).append((row["accuracy"], row["seconds"]))
    cases = [case for case in CASES if any(row["case"] == case for row in results.runs)]
    if len(cases) < 2:
        return []
    means = {key: statistics.mean(accuracy for accuracy, _ in values) for key, values in found.items()}
    best = {case: max(mean for (_, other), mean in means.items() if other == case) for case in cases}

    def cell(slug: str, case: str) -> str:
        if (slug, case) not in found:
            return ""
        mean, runs = means[slug, case], found[slug, case]
        accuracy = f"**{mean:.3f}**" if mean == best[case] else f"{mean:.3f}"
        few = f" ({len(runs)} seed{'s' * (len(runs) > 1)})" if len(runs) < SEEDS else ""
        return f"{accuracy} in {statistics.median(spent for _, spent in runs):.0f} s{few}"

    lines = [
        "### All cases",
        "",
        "Mean test accuracy of three seeds in median seconds to saved; the best of a case is bold.",
        "",
    ]
    lines += [f"| method | {' | '.join(cases)} |", "|---" * (1 + len(cases)) + "|"]
    for slug, method in METHODS.items():
        if any((slug, case) in found for case in cases):
            lines.append(f"| {method.title} | {' | '.join(cell(slug, case) for case in cases)} |")
    return [*lines, "", *_machines(results, cases)]


def _machines(results: Results, cases: Sequence[str]) -> list[str]:
    """Which cases were measured where; nothing to say of a single machine."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for machine in results.machines(case):
            found.setdefault(machine, []).append(case)
    if len(found) < 2:
        return []
    said = "; ".join(f"{machine}: {', '.join(own)}" for machine, own in found.items())
    return [f"Seconds hold within a column. {said}.", ""]
