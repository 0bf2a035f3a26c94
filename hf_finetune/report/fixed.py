"""What is said of a run that `hf-finetune fix` made: in the terminal, and on its card."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_finetune.report.fields import FixFields, RunReport
from hf_finetune.report.run_json import as_run_report
from hf_finetune.report.tables import escape, plain_table, terminal_width
from hf_finetune.report.wording import words_of
from hf_finetune.units import format_seconds

_SHOWN = 5


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


def changed_text(fix: FixFields, split: str) -> str:
    """`3 labels corrected, 1 row left out`; empty where nothing changed in the split."""
    parts = []
    if relabelled := fix["relabelled"].get(split, 0):
        parts.append(f"{relabelled:,} label{'s' * (relabelled != 1)} corrected")
    if left_out := fix["left_out"].get(split, 0):
        parts.append(f"{_rows(left_out)} left out")
    if split == "train" and fix["added"]:
        parts.append(f"{_rows(fix['added'])} added")
    return ", ".join(parts)


def fixed_for_card(fix: FixFields) -> str:
    """One line of Markdown, without names of files or folders."""
    changed = [f"{text} in {split}" for split in ("train", "validation", "test") if (text := changed_text(fix, split))]
    new = fix["new_classes"]
    classes = f"; new: {', '.join(map(escape, new[:_SHOWN]))}{' …' * (len(new) > _SHOWN)}" if new else ""
    head = "the head was fitted again in closed form on the features of all rows"
    kept = "" if fix["rung"] in ("probe", "start") else f"; what {fix['rung']} had trained below it stayed as it was"
    again = f" It was fixed {fix['earlier']:,} times before." if fix["earlier"] else ""
    return f"Fixed after training: {'; '.join(changed)}{classes}. {head[:1].upper()}{head[1:]}{kept}.{again}"


def render_fixed(report: RunReport | Mapping[str, Any], folder: Path, *, width: int | None = None) -> str:
    """A short account of the fixed run in `folder`."""
    if not isinstance(report, RunReport):
        report = as_run_report(report)
    fix = report.fix
    if fix is None:
        raise ValueError("a fixed run is expected")
    first = words_of(report).first
    rows = [(split, text) for split in ("train", "validation", "test") if (text := changed_text(fix, split))]
    if fix["new_classes"]:
        rows.append(("new classes", ", ".join(fix["new_classes"])))
    for split, where in (("train", "rows of train, and are left out together with them"),
                         ("validation", "rows of validation, whose score they flatter"),
                         ("test", "images of test, whose score they flatter")):  # fmt: skip
        if twins := fix["twins"][split]:
            rows.append(("look alike", f"{twins:,} of the added look exactly like {where}"))
    before = fix["before"]
    told = first.said(before["validation"]) if first.key in before["validation"] else "not known"
    rows.append((f"{first.name} before", f"{told} on validation, as {fix['of']} told it"))
    if fix["relabelled"].get("validation") or fix["left_out"].get("validation"):
        corrected = before["corrected"]
        said = "not known: its head lacks a class" if corrected is None else f"{first.text(corrected[first.key])}"
        rows.append(("", f"{said} on validation as it is labelled now"))
    elif fix["rung"] != "probe" and before["corrected"] is not None:
        rows.append(("", f"{first.text(before['corrected'][first.key])} of its features by its own head"))
    rows.append(("after", f"{first.said(report.validation)} on validation"))
    rows.append(("", f"{report.rungs[-1].note}"))
    if report.test:
        was = f"; before {first.text(before['test'][first.key])}" if first.key in before["test"] else ""
        how = "" if _precision(report) == "fp32" else f", in {_precision(report)}"
        rows.append(("test", f"{first.said(report.test)}{how}{was}"))
    else:
        rows.append(("test", f"not scored: {fix['untested']}"))
    rows += [("" if number else "the result", text) for number, text in enumerate(fix["advice"])]
    stages = ", ".join(f"{name} {format_seconds(each)}" for name, each in report.seconds.items() if name != "total")
    rows.append(("time", f"{format_seconds(report.seconds['total'])} ({stages})"))
    kind = "model" if report.whole else "adapter"
    rows.append((kind, str(folder / kind)))
    path = f'"{folder}"' if " " in str(folder) else str(folder)
    again = ""
    if (folder / "corrections.csv").is_file() and fix["rung"] != "probe":
        table = folder / "corrections.csv"
        words = ["hf-finetune", "train", str(folder), f"output.dir={folder}-trained", f"data.corrections={table}"]
        lacks = sum(fix["only_here"].values())
        but = f", without {_rows(lacks)} that the dataset lacks (see above)" if lacks else ""
        again = f"\n\nTrain again with what was corrected and left out{but}:\n  {shlex.join(words)}"
    table = plain_table(rows, width or terminal_width())
    return f"Fixed: {fix['of']}\n\n{table}\n\nPredict with it:\n  hf-finetune predict {path} photo.jpg{again}"


def _precision(report: RunReport) -> str:
    return str(report.plan.get("precision", {}).get("value", "fp32"))
