"""What a page says of a split's answers, by the kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hf_finetune.report.page.content.classes import class_sections
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.grades import grade_sections
from hf_finetune.report.page.content.labels import label_sections
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.content.numbers import number_sections
from hf_finetune.report.page.structure import Section

_BY_KIND: Mapping[str, Callable[[Evidence, Maker], tuple[Section, ...]]] = {
    "classification": class_sections,
    "multilabel": label_sections,
    "ordinal": grade_sections,
    "regression": number_sections,
}


def answer_sections(evidence: Evidence, maker: Maker) -> tuple[Section, ...]:
    """Of several targets a section each, with those of its kind within."""
    if evidence.task["kind"] != "several":
        return _BY_KIND[evidence.task["kind"]](evidence, maker)
    return tuple(
        Section(name, (_first(its),), (), answer_sections(its, maker))
        if len(its.lines) and its.score
        else Section(name, (f"No image of {evidence.split} has it.",))
        for name, its in evidence.targets()
    )


def _first(evidence: Evidence) -> str:
    first = evidence.words.first
    return f"{first.name[:1].upper()}{first.name[1:]}: {first.said(evidence.score)}."
