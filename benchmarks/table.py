"""Turns the raw figures of a comparison into docs/tables.md's tables, between the two comments that name the folder.

    python benchmarks/table.py docs/results/bench-small [--into docs/tables.md]

Accuracies are recomputed from the predictions. A method that was not run is an empty row with the reason; a method that
has fewer than three seeds says so.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import CASES
from cells import COLUMNS, cells_of, target_of
from methods import METHODS, Method
from results import Results
from summary import summary


def case_table(case: str, results: Results) -> list[str]:
    """One case: its target, and a row a method; ours and the references alike."""
    rows = [row for row in results.runs if row["case"] == case]
    if not rows:
        return [f"### {CASES[case].title}", "", f"Not run: {results.aside(case, '') or 'not yet'}.", ""]
    target = target_of(rows)
    test = len(results.test_photos(case))
    said = f"target {target:.3f} on validation" if target is not None else "no target: reference 1 was not run"
    lines = [f"### {CASES[case].title}", "", f"{test} test photos; {said}; {_measured_on(case, rows, results)}.", ""]
    lines += [f"| method | {' | '.join(title for title, _ in COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for slug, method in METHODS.items():
        own = [row for row in rows if row["method"] == slug]
        reason = results.aside(case, slug)
        if reason is None and method.script:
            reason = "not yet" if method.variant == "as shipped" else "not yet (make bench-tune, then make bench-full)"
        if own:
            lines.append(f"| {_title(method, own)} | {' | '.join(cells_of(own, target))} |")
        elif reason is not None:
            said = " ".join(reason.replace("|", "/").split())[:200]
            lines.append(f"| {method.title} | not run: {said} |{' |' * (len(COLUMNS) - 1)}")
    return [*lines, "", f"![accuracy against seconds and memory]({results.name}/{case}.png)", ""]


def _measured_on(case: str, rows: Sequence[dict[str, Any]], results: Results) -> str:
    """The machine, and the rates of its matrix products that the shares are of."""
    rates = [
        f"{statistics.median(row['work'][name] for row in rows):,.0f} GFLOP/s in {name}" for name in ("fp32", "bf16")
    ]
    return f"{'; '.join(results.machines(case))} ({', '.join(rates)})"


def _title(method: Method, rows: Sequence[dict[str, Any]]) -> str:
    """The method, with the tuned value and the versions of an environment of its own."""
    rates = sorted({row["learning_rate"] for row in rows if "learning_rate" in row})
    own = sorted({f"{name} {number}" for row in rows for name, number in row.get("versions", {}).items()})
    said = [f"learning rate {'/'.join(f'{rate:g}' for rate in rates)}"] if rates else []
    return "; ".join([method.title, *said, *([", ".join(own)] if own else [])])


def section(results: Results) -> str:
    """Everything between the two comments."""
    dates = sorted({row["date"] for row in results.runs})
    if not dates:
        reasons = results.reasons() or ["not yet"]
        return "Not run: " + "; ".join(reasons) + "."
    lines = []
    for about in results.about:
        versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
        lines += [
            f"{about['processor']}, {about['cores']} cores, {about['ram_gb']} GB, device: {about['device']}; "
            f"{about['system']}, Python {about['python']}, {versions}.",
        ]
    lines = [
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} on: " + " / ".join(dict.fromkeys(lines)),
        "",
    ]
    lines += summary(results)
    for case in CASES:
        if any(row["case"] == case for row in results.runs) or results.aside(case, ""):
            lines += case_table(case, results)
    return "\n".join(lines)


def write_into(document: Path, name: str, text: str) -> None:
    """Replace what stands between the two comments; both are added at the end where they are missing."""
    start, end = f"<!-- {name}: made by benchmarks/table.py -->", f"<!-- end of {name} -->"
    old = document.read_text("utf-8")
    if start not in old:
        old += f"\n{start}\n{end}\n"
    head, rest = old.split(start, 1)
    document.write_text(f"{head}{start}\n{text}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    results = Results(options.results.resolve())
    from plots import draw

    for case in dict.fromkeys(row["case"] for row in results.runs):
        draw(results, case, options.results / f"{case}.png")
    text = section(results)
    if options.into is None:
        print(text)
    else:
        write_into(options.into, options.results.name, text)


if __name__ == "__main__":
    main()
