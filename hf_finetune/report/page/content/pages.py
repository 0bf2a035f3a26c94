"""The pages of a run and of an evaluation: what they open with, and their sections in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import yaml

from hf_finetune.report.fields import RunReport
from hf_finetune.report.page.content.answers import answer_sections
from hf_finetune.report.page.content.evidence import Evidence
from hf_finetune.report.page.content.looks import Look, looked_at
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.content.training import Log, data_section, training_sections
from hf_finetune.report.page.fitting import fitted
from hf_finetune.report.page.structure import Code, Gallery, Page, Section, Table, Thumb
from hf_finetune.report.page.texts import short
from hf_finetune.report.page.thumbnails import thumbnail
from hf_finetune.report.references import base_name, dataset_name, method, shared_recipe, without_paths
from hf_finetune.report.results import (
    NO_TEST,
    about_validation,
    headline,
    result_table,
    run_headline,
    score_table,
)
from hf_finetune.report.summary import run_title, summary_rows
from hf_finetune.report.wording import words_of
from hf_finetune.units import format_bytes

_PRIVATE = "It holds small images of the data, and names of files: share it as you would share those."

_INTERRUPTED = (
    "This run was interrupted: the best rung so far became its result, and no test was scored. The same command goes "
    "on with it."
)
_NOT_TESTED = "The checkpoint was chosen on validation, so that these figures are optimistic."


@dataclass(frozen=True)
class Augmented:
    """Training images as the model saw them: `names` of n images, and uint8 [n, v, 3, H, W] of each several times."""

    names: Sequence[str]
    pixels: np.ndarray


def run_page(
    report: RunReport,
    evidence: Evidence,
    log: Log,
    maker: Maker,
    *,
    augmented: Augmented | None = None,
    look: Look | None = None,
    interrupted: bool = False,
) -> str:
    """The HTML of a finished run, or of one that was interrupted and has a result. `look`: where there is a model."""
    words = words_of(report)
    opening = (
        f"{method(report)} of {base_name(report)} ({report.model['parameters']:,} parameters, "
        f"{report.model['architecture']}), made {words.purpose}: {without_paths(dataset_name(report))}."
    )
    columns, rows = result_table(report)
    answers, trained = answer_sections(evidence, maker), training_sections(report, log, maker)
    looked = looked_at(evidence, look, maker)  # after the charts, which take less time
    optimistic = about_validation(report, _NOT_TESTED if interrupted else NO_TEST)
    sections = (
        Section(
            "In short",
            (opening, optimistic),
            (Table("Results", columns, tuple(rows)), Table("What the run came to", (), tuple(summary_rows(report)), 2)),
        ),
        *answers,
        *looked,
        *trained,
        *_as_seen(augmented),
        data_section(report),
        _again(report),
    )
    notices = []
    if interrupted:
        notices.append(_INTERRUPTED)
    return _finished(Page(run_title(report), f"{run_headline(report)}.", sections, tuple(notices)), maker)


def evaluation_page(
    title: str,
    evidence: Evidence,
    notes: Sequence[str],
    left_out: Sequence[Mapping[str, str]],
    look: Look | None = None,
) -> str:
    """The HTML of a result that was scored on some rows."""
    maker = Maker()
    columns, rows = score_table(evidence.words, {evidence.split: evidence.score})
    parts = [Table("Results", columns, tuple(rows))]
    if left_out:
        cells = tuple((short(row["name"]), short(row["reason"], 400)) for row in left_out[:100])
        note = f"{len(left_out) - 100:,} more." if len(left_out) > 100 else ""
        parts.append(Table("Rows that could not be scored", ("row", "why"), cells, 2, note))
    sections = (
        Section("In short", tuple(notes), tuple(parts)),
        *answer_sections(evidence, maker),
        *looked_at(evidence, look, maker),
    )
    return _finished(Page(title, f"{headline(evidence.words, evidence.split, evidence.score)}.", sections), maker)


def _finished(page: Page, maker: Maker) -> str:
    from hf_finetune import __version__

    notices = page.notices
    if maker.left_out:
        again = "`hf-finetune report` with the run's folder makes the page again."
        notices = (*notices, f"Left out of this page: {'; '.join(maker.left_out)}. {again}")
    footer = f"Made by hf_finetune {__version__}. This file asks nothing of the network. {_PRIVATE}"
    return fitted(replace(page, notices=notices, footer=footer))


def _as_seen(augmented: Augmented | None) -> tuple[Section, ...]:
    if augmented is None:
        return ()
    thumbs = tuple(
        Thumb(name, thumbnail(pixels))
        for name, row in zip(augmented.names, augmented.pixels, strict=True)
        for pixels in row
    )
    text = "Each image several times, as an epoch of training at full depth draws it."
    return (Section("Augmentation as the model saw it", (text,), (Gallery("Training images", thumbs),)),)


def _again(report: RunReport) -> Section:
    """What it takes to do the same."""
    machine, commit = report.machine, report.model["commit"]
    where = (
        f"{machine['device_name']} ({machine['device']}), {machine['cores']} cores, "
        f"{format_bytes(machine['ram_bytes'])} of free RAM, {machine['world_size']} process"
        f"{'es' * (machine['world_size'] > 1)}"
    )
    rows = [
        ("base", base_name(report) + (f" at {commit}" if commit else "")),
        ("machine", where),
        ("system", machine["system"]),
        *report.versions.items(),
    ]
    recipe = yaml.safe_dump(shared_recipe(report), sort_keys=False, allow_unicode=True)
    return Section(
        "Do it again",
        (),
        (
            Code(
                "Train it again, with the recipe that lies beside this page:", "hf-finetune train recipe.yaml --number"
            ),
            Table("Machine and versions", (), tuple(rows), 2),
            Code("The recipe, with every default", recipe, folded=True),
        ),
    )
