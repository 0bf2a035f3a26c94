"""What a person reads in the terminal: the plan before the run, the summary after it. Plain text, no colour codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_finetune.files.visible import one_line
from hf_finetune.report.fields import RunReport
from hf_finetune.report.references import base_name, dataset_name, method
from hf_finetune.report.run_json import as_run_report
from hf_finetune.report.tables import plain_table, terminal_width, wrapped
from hf_finetune.report.value_range import differs_from_stock, range_text, value_range_of
from hf_finetune.report.wording import Figure, Words, words_of
from hf_finetune.types import Candidate, Decision, Plan
from hf_finetune.units import about_seconds, format_bytes, format_seconds

# What a run shows of its plan before it begins; the rest is in plan.json, and `hf-finetune plan` shows it.
BRIEF = ("device", "rungs", "learning_rate")
PAGE = "report.html"  # in the run folder, where one was made
SHORTEST_S = 0.05  # of a stage that is named


def render_plan(plan: Plan, *, width: int | None = None, brief: bool = False) -> str:
    """One table of name, value and reason, `width` columns wide; None asks the terminal and keeps within 40 to 120.

    `brief`: the few settings that say most, and how to see the others.
    """
    width = width or terminal_width()
    decisions = {name: decision for name, decision in vars(plan).items() if isinstance(decision, Decision)}
    rows: list[tuple[str, ...]] = [("setting", "value", "why")]
    rows += [(name, show(each.value), each.reason) for name, each in decisions.items() if not brief or name in BRIEF]
    if plan.memory_bytes:
        rows.append(("memory", format_bytes(sum(plan.memory_bytes.values())), _memory_reason(plan, brief)))
    if plan.seconds:
        parts = ", ".join(f"{rung} {about_seconds(each)}" for rung, each in plan.seconds.items())
        rows.append(("time", _time_text(plan), f"{parts}; {plan.seconds_note}"))
    more = f"{len(decisions) - len(BRIEF)} more settings: `hf-finetune plan`, or plan.json in the run folder.\n"
    return f"{plain_table(rows, width)}\n{wrapped(more, width) if brief else ''}"


def _time_text(plan: Plan) -> str:
    total = sum(plan.seconds.values())
    if plan.seconds_limit is not None and total > plan.seconds_limit:
        return f"{about_seconds(plan.seconds_limit)} of {about_seconds(total)}"
    return f"about {about_seconds(total)}"


def _memory_reason(plan: Plan, brief: bool) -> str:
    parts = {part: format_bytes(size) for part, size in plan.memory_bytes.items()}
    if brief:
        largest = sorted(plan.memory_bytes, key=lambda part: -plan.memory_bytes[part])[:2]
        return f"forecast; most of it: {', '.join(f'{part} {parts[part]}' for part in largest)}"
    listed = ", ".join(f"{part} {size}" for part, size in parts.items())
    return f"{listed} ({plan.memory_note})" if plan.memory_note else listed


def show(value: object) -> str:
    """A setting's value as text: `yes`, `1,000`, `0.0003`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def render_summary(report: RunReport | Mapping[str, Any], run_dir: Path, *, width: int | None = None) -> str:
    """A short account of the finished run in `run_dir`; `report` may be what `read_report` gave."""
    if not isinstance(report, RunReport):
        report = as_run_report(report)
    rows = summary_rows(report)
    kind = "model" if report.whole else "adapter"
    rows.append((kind, str(run_dir / kind)))
    if (page := run_dir / PAGE).is_file():
        rows.append(("report", str(page)))
    path = f'"{run_dir}"' if " " in str(run_dir) else str(run_dir)
    # On a line of its own, so that it can be copied.
    use = f"hf-finetune predict {path} photo.jpg"
    return f"{run_title(report)}\n\n{plain_table(rows, width or terminal_width())}\n\nPredict with it:\n  {use}\n"


def run_title(report: RunReport) -> str:
    """`LoRA (rank 8): vit_tiny on trashnet, 6 classes`."""
    return f"{method(report)}: {base_name(report)} on {dataset_name(report)}, {words_of(report).size}"


def summary_rows(report: RunReport) -> list[tuple[str, str]]:
    """What a finished run came to, as names and texts."""
    words, test = words_of(report), report.test
    rows: list[tuple[str, str]] = []
    if test:
        rows.append((f"test {words.first.name}", words.first.said(test)))
        if clean := report.findings.get("without_leaks"):
            rows.append(("", f"{words.first.said(clean)} {without_copies(clean['leaked'])}"))
    rows.append(("validation", f"{words.first.said(report.validation)}; it chose the result"))
    if len(report.rungs) > 1:
        rows.append(("rungs", "; ".join(rung_text(rung, report.recipe["train"]["best_by"]) for rung in report.rungs)))
    rows += words.further(test or report.validation, weakest_shown=3)
    rows += _brought(test or report.validation, report.extensions.get("metrics", ()))
    if scored := precision_text(report):
        rows.append(("scored in", scored))
    grey = value_range_of(report)
    if grey is not None and differs_from_stock(grey):
        stock = "stock code takes 0 to 255 for that, and needs the lines of the model card"
        rows.append(("grey values", f"{range_text(grey)} became black to white; {stock}"))
    if report.data["rejected"]:
        count = len(report.data["rejected"])
        rows.append(("left out", f"{count:,} unreadable row{'s' * (count > 1)}, named in run.json"))
    if worst := report.findings.get("worst"):
        rows += [("found" if number == 0 else "", text) for number, text in enumerate(worst)]
        rows.append(("", "`hf-finetune doctor` shows all that it finds, and writes what data.corrections reads"))
    rows.append(("time", time_text(report)))
    rows.append(("memory", memory_text(report)))
    replays = report.plan.get("used", {}).get("replays", 0)
    if replays:
        rows.append(
            ("", f"out of memory {replays:,} times: micro-batch {report.plan['used']['micro_batch']} at the end")
        )
    return rows


def render_metrics(score: Mapping[str, Any], split: str, words: Words, *, width: int | None = None) -> str:
    """What `hf-finetune evaluate` prints of a full `Target.score`."""
    rows = [(f"{split} {words.first.name}", words.first.said(score)), *words.further(score, weakest_shown=10)]
    pairs = [
        f"{pair['label']} taken for {pair['predicted']} ({pair['count']})"
        for pair in score.get("confused_pairs", ())[:5]
    ]
    if pairs:
        rows.append(("confused", ", ".join(pairs)))
    if "images_s" in score:
        speed = f"{score['images_s']:.3g} images/s, {1000 / score['images_s']:.3g} ms an image"
        rows.append(("speed", f"{speed}, decoded before"))
    rows += [("note", note) for note in score.get("notes", ())]
    if lost := score.get("left_out", ()):
        shown = "; ".join(one_line(f"{row['name']}: {row['reason']}") for row in lost[:5])
        rows.append(("left out", f"{len(lost):,} row{'s' * (len(lost) > 1)} that cannot be scored: {shown}"))
    if told := _told_in_training(score, words.first):
        rows.append(("in training", told))
    return plain_table(rows, width or terminal_width())


def _told_in_training(score: Mapping[str, Any], first: Figure) -> str:
    """What the run said of the same rows, and why that differs; empty where the printed digits are the same."""
    before = score.get("in_training")
    if not before or all(f"{before[key]:.3f}" == f"{score[key]:.3f}" for key in (first.key, "loss")):
        return ""
    told = f"{first.name} {first.text(before[first.key])}, loss {before['loss']:.3f}"
    return f"the run reported {told} for these rows: {before['why']}"


def precision_text(report: RunReport) -> str:
    """`validation in bf16, in which it trained; test in fp32`; empty where all is float32, as `evaluate` scores."""
    trained = report.plan.get("precision", {}).get("value", "fp32")
    kind = report.recipe["quantization"]["kind"]
    exact = report.test and report.recipe["budget"]["time"] is None and not report.fix
    split = f"validation in {trained}, in which it trained; test in fp32" if exact and trained != "fp32" else trained
    if kind != "none":
        return f"{split} beside {kind} layers, which `hf-finetune evaluate` and stock code round a little otherwise"
    if trained == "fp32":
        return ""
    if exact:
        return f"{split}, as `hf-finetune evaluate` does"
    return f"{trained}, in which it trained; `hf-finetune evaluate` does in fp32, so that its figures differ a little"


def _brought(score: Mapping[str, Any], own: Iterable[str]) -> list[tuple[str, str]]:
    """`own`: the names of the metrics that the program brought."""
    shown = [f"{name} {score[name]:.3f}" for name in own if name in score]
    return [("your metrics", ", ".join(shown))] if shown else []


def without_copies(leaked: int) -> str:
    """Behind a figure of the test."""
    rows = "1 row that has" if leaked == 1 else f"{leaked:,} rows that have"
    return f"without the {rows} a copy in another split"


def rung_text(rung: Candidate, by: str) -> str:
    """`cached 0.918 in 17.9 s`, and whether it was kept."""
    text = f"{rung.rung} {rung.validation[by]:.3f} in {format_seconds(rung.seconds)}"
    if rung.kept:
        return f"{text} (less lost)" if rung.by_chance else text
    return f"{text} (not {'clearly ' if rung.by_chance else ''}better)"


def time_text(report: RunReport) -> str:
    """Total and stages, which may overlap; those that took no time are not named."""
    total = report.seconds["total"]
    spent = {name: seconds for name, seconds in report.seconds.items() if name != "total" and seconds >= SHORTEST_S}
    stages = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in spent.items())
    beside = "; some at the same time" if sum(spent.values()) > total else ""
    return f"{format_seconds(total)} ({stages}{beside})"


def memory_text(report: RunReport) -> str:
    """Forecast against measured, on the device that trained."""
    peak, planned = report.peak_bytes, sum(report.plan.get("memory", {}).get("bytes", {}).values())
    ram = f"{format_bytes(peak['anonymous'])} of RAM ({format_bytes(peak['resident'])} with shared pages)"
    measured = ram if report.machine["device"] == "cpu" else f"{format_bytes(peak['device'])} on the device, {ram}"
    return f"forecast {format_bytes(planned)}, measured {measured}" if planned else measured
