"""The rows of a finished run as a person wants them: what goes, what gets another label, what comes in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hf_finetune.data.index.written_labels import WrittenLabels
from hf_finetune.data.sources.source import count
from hf_finetune.errors import DataError
from hf_finetune.labels import LabelColumn
from hf_finetune.pipeline.fix.added import Found, decoded, found_files, found_in, units_of
from hf_finetune.pipeline.fix.changes import Changes, read_changes
from hf_finetune.pipeline.fix.features import Loaded
from hf_finetune.pipeline.fix.opened import OpenedRun
from hf_finetune.pipeline.fix.rows import Rows, refuse_emptied, refuse_unlearnt
from hf_finetune.pipeline.fix.twins import Twins, join_twins
from hf_finetune.types import Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wishes:
    """`table`: of corrections. `add`: folders or tables of images. `new_classes`: the table may name classes that the
    run does not know. `out`, `overwrite`: where the fixed run goes. `score_test`: whether to score the test again.
    `overrides`: `data.key=value`, where the run's own images are now."""

    table: Path | None = None
    add: Sequence[str] = ()
    new_classes: bool = False
    out: str | None = None
    overwrite: bool = False
    score_test: bool = True
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Taught:
    """The rows as they are now, what became of them, and what their labels mean. `added`: how many were, `twins` what
    of those looks like rows that were there."""

    rows: Mapping[Split, Rows]
    changes: Changes
    columns: tuple[LabelColumn, ...]
    new_classes: tuple[str, ...]
    added: int
    twins: Twins


def wanted(
    opened: OpenedRun, rows: Mapping[Split, Rows], labels: WrittenLabels, wishes: Wishes
) -> tuple[Changes, list[Found]]:
    """What the table changes, and the images that come in. Raises DataError where that is nothing."""
    record, name = opened.record, opened.folder.path.name
    gone = {each["name"] for each in opened.report.data["rejected"]} | set(record.left_out)
    gone |= {each.path for each in opened.own_corrections if each.action == "exclude"}
    changes = Changes()
    if wishes.table is not None:
        tested = frozenset(record.names.get("test", ())) - gone
        changes = read_changes(wishes.table, f"the run {name}", rows, tested, frozenset(gone), labels)
    found = [found_in(place, opened, labels) for place in wishes.add]
    if changes.files:
        found.append(found_files(changes.files, opened))
    if changes.none and not any(map(len, found)):
        blank = f"; {count(changes.blank, 'image')} in it lack a label still" if changes.blank else ""
        given = wishes.table or " ".join(wishes.add)
        raise DataError(
            f"fix: something to change is expected, {given or 'nothing'} changes nothing in {name}{blank}",
            "a table says `exclude`, or `relabel` with another label, in its column action; --add FOLDER adds images",
        )
    if changes.blank:
        logger.warning("%s without a label yet: left out.", count(changes.blank, "image"))
    return changes, [each for each in found if len(each)]


def with_features(loaded: Loaded, found: Sequence[Found]) -> list[tuple[Found, Rows]]:
    """The images with their features; each name once."""
    added: list[tuple[Found, Rows]] = []
    for each in found:
        pixels = decoded(each.index, loaded.opened, each.index.source)
        features = loaded.features(pixels, "features")
        units = np.full(len(pixels), -1, np.int64)
        there = {name for _, rows in added for name in rows.names}
        rows = Rows(tuple(pixels.names), np.asarray(pixels.labels), units, features).without(there)
        added.append((each, rows))
    return added


def taught_again(
    opened: OpenedRun,
    before: Mapping[Split, Rows],
    labels: WrittenLabels,
    changes: Changes,
    added: Sequence[tuple[Found, Rows]],
) -> Taught:
    """The rows after all changes. Raises DataError where a class would be left without rows, or nothing to judge by."""
    columns = tuple(labels.columns)
    if labels.new:
        columns = (replace(columns[0], names=labels.names),)
    rows: dict[Split, Rows] = {
        split: its.without(changes.left_out.get(split, ())).relabelled(changes.labels.get(split, {}))
        for split, its in before.items()
    }
    train = rows["train"]
    for found, more in added:
        units, known = units_of(more.names, found, train.names, train.units, opened)
        train = replace(train, units=known).with_more(replace(more, units=units))
    train, twins = join_twins(train, len(rows["train"]), rows["validation"])
    twins = replace(twins, test=sum(name in found.tested for found, more in added for name in more.names))
    rows["train"] = train
    refuse_emptied(before["train"], train, columns)
    refuse_unlearnt(labels.new, columns[0].names, train)
    if not len(rows["validation"]):
        raise DataError("fix: validation rows are expected to stay, none would be left", "keep some of them")
    return Taught(rows, changes, columns, tuple(labels.new), sum(len(more) for _, more in added), twins)
