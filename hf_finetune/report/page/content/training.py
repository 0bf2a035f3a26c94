"""How a run came to its result: its rungs, what was planned of them and of memory, and the images that it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.page import charts
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.structure import Part, Section, Table
from hf_finetune.report.page.texts import short
from hf_finetune.report.references import without_paths
from hf_finetune.report.summary import show
from hf_finetune.report.wording import words_of
from hf_finetune.types import Candidate
from hf_finetune.units import format_bytes, format_seconds

_LEAST_DRAWN = 0.01  # of all memory
_MOST_REJECTED, _MOST_CLASSES = 100, 1_000  # rows of a table; run.json has all
Log = Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl


def training_sections(report: RunReport, log: Log, maker: Maker) -> tuple[Section, ...]:
    """The climb, and what was forecast beside what was measured."""
    return (
        Section("How it was trained", (), (*_rungs(report, log, maker), _decisions(report))),
        Section("Planned and measured", (), (*_times(report), *_memory(report, maker))),
    )


def _rungs(report: RunReport, log: Log, maker: Maker) -> tuple[Part, ...]:
    """Validation by seconds since the start, of every rung."""
    by = report.recipe["train"]["best_by"]
    figure = next((each for each in words_of(report).figures if each.key == by), None)
    name = by if figure is None else figure.name
    rows = tuple(
        (
            rung.rung,
            rung.note,
            "kept" if rung.kept else "not kept",
            f"{rung.validation[by]:.3f}",
            format_seconds(rung.seconds),
            format_seconds(rung.at_s),
        )
        for rung in report.rungs
    )
    table = Table(
        f"Candidates, and their {name} on validation",
        ("rung", "what", "", name, "took", "there after"),
        rows,
        texts=3,
    )
    if len(report.rungs) < 2 and not _curves(report.rungs, log, by):
        return (table,)
    points = {each.rung: (each.at_s, each.validation[by]) for each in report.rungs}
    return (
        maker.chart(
            f"{name[:1].upper()}{name[1:]} on validation, by seconds since the start",
            lambda each: charts.lines(each, _curves(report.rungs, log, by), across="seconds", up=name, points=points),
            table,
            "A dot is what a rung ended with. The best one on validation became the result.",
        ),
    )


def _curves(rungs: Sequence[Candidate], log: Log, by: str) -> dict[str, tuple[list[float], list[float]]]:
    """The evaluations of every rung that trained. The log names no rungs: each begins its seconds anew, the last ones
    are this run's."""
    trained = [rung for rung in rungs if rung.images]
    pieces: list[list[Mapping[str, Any]]] = []
    before = float("inf")
    for line in log:
        if line["seconds"] < before:
            pieces.append([])
        before = line["seconds"]
        if isinstance(line.get(f"eval_{by}"), int | float):
            pieces[-1].append(line)
    if not trained or len(pieces) < len(trained):
        return {}
    found = {}
    for rung, piece in zip(trained, pieces[-len(trained) :], strict=True):
        start = rung.at_s - rung.seconds
        if len(piece) > 1:
            found[rung.rung] = [start + line["seconds"] for line in piece], [line[f"eval_{by}"] for line in piece]
    return found


def _decisions(report: RunReport) -> Table:
    rows = tuple(
        (name, show(entry["value"]), entry["reason"]) for name, entry in report.plan.items() if "value" in entry
    )
    return Table("Every setting that the plan decided, and why", ("setting", "value", "why"), rows, 3, folded=True)


def _times(report: RunReport) -> tuple[Table, ...]:
    """Each rung's seconds as planned, as forecast just before it began, and as it took."""
    planned = dict(report.plan.get("seconds", {}).get("by_rung", {}))
    took = {rung.rung: rung for rung in report.rungs}
    names = [*dict.fromkeys((*(name for name in planned if name != "rest"), *took))]

    def seconds(value: float | None) -> str:
        return "" if value is None else format_seconds(value)

    rows = [
        (
            name,
            seconds(planned.get(name)),
            seconds(took[name].forecast_s if name in took else None),
            seconds(took[name].seconds) if name in took else "not taken",
        )
        for name in names
    ]
    rest = report.seconds["total"] - sum(rung.seconds for rung in report.rungs)
    rows.append(("rest", seconds(planned.get("rest")), "", seconds(max(0.0, rest))))
    total = sum(planned.values()) if planned else None
    rows.append(("all", seconds(total), "", seconds(report.seconds["total"])))
    note = report.plan.get("seconds", {}).get("note", "")
    return (Table("Time by rung", ("", "planned", "forecast as it began", "took"), tuple(rows), note=note),)


def _memory(report: RunReport, maker: Maker) -> tuple[Part, ...]:
    """The parts of the forecast, and what of them was measured."""
    if not report.memory:
        return ()
    forecast, measured = report.memory["forecast"], report.memory["measured"]
    parts = {"all": forecast["total"], **forecast["parts"]}
    seen = {"all": measured["total"], **({"process": measured["process"]} if "process" in measured else {})}
    rows = tuple(
        (name, format_bytes(size), format_bytes(seen[name]) if name in seen else "") for name, size in parts.items()
    )
    table = Table("Memory by part", ("part", "forecast", "measured"), rows)
    megabytes = {name: size / 1e6 for name, size in parts.items() if size >= _LEAST_DRAWN * forecast["total"]}
    marks = {name: seen[name] / 1e6 for name in megabytes if name in seen}
    return (
        maker.chart(
            "Memory as it was forecast, by part",
            lambda name: charts.bars(name, megabytes, label="MB", marks=marks),
            table,
            "A line across a bar is what was measured of it. Parts below 1 % are in the table alone.",
        ),
    )


def data_section(report: RunReport) -> Section:
    """Which rows there were, and which could not be used."""
    data = report.data
    counts = tuple((split, f"{count:,}") for split, count in data["counts"].items())
    text = [f"Cut from train, the same every time: {', '.join(data['cut'])}."] if data["cut"] else []
    text += [short(without_paths(str(note)), 600) for note in data["notes"]]
    text += [f"Found: {short(each, 600)}." for each in report.findings.get("worst", ())]
    if clean := report.findings.get("without_leaks"):
        first = words_of(report).first
        leaks = f"{clean['leaked']:,} row{'s' * (clean['leaked'] > 1)} with a copy in another split"
        text.append(f"Without the {leaks} the test says: {first.name} {first.said(clean)}.")
    parts: list[Part] = [Table("Images by split", ("split", "images"), counts), *_by_class(report)]
    if rejected := data["rejected"]:
        rows = tuple(
            (short(row["name"]), row["split"], short(without_paths(row["reason"]), 400))
            for row in rejected[:_MOST_REJECTED]
        )
        more = len(rejected) - len(rows)
        note = f"{more:,} more are in run.json." if more > 0 else ""
        parts.append(Table("Rows that could not be used", ("row", "split", "why"), rows, texts=3, note=note))
    return Section("Data", tuple(text), tuple(parts))


def _by_class(report: RunReport) -> tuple[Table, ...]:
    """Rows of each class by split, as far as run.json knows them."""
    if report.task["kind"] != "classification":
        return ()
    names = report.data["labels"]
    columns: dict[str, list[str]] = {}
    if counts := report.task.get("class_counts"):
        columns["train"] = [f"{count:,}" for count in counts]
    for split, score in (("validation", report.validation), ("test", report.test)):
        if table := score.get("per_class"):
            columns[split] = [f"{table[name]['support']:,}" for name in names]
    rows = tuple(zip(map(short, names[:_MOST_CLASSES]), *columns.values(), strict=False))
    more = len(names) - len(rows)
    note = f"{more:,} more classes are in run.json." if more > 0 else ""
    return (Table("Images by class", ("class", *columns), rows, note=note, folded=len(names) > 12),)
