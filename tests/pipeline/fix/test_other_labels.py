"""Runs whose labels are no single class: fixed, and trained again with the table that the fixed run holds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from hf_finetune.data.index.scan import scan
from hf_finetune.pipeline.fix.fix import fix
from hf_finetune.pipeline.fix.taught import Wishes
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.result.split_record import read_record
from hf_finetune.types import Label
from tests.pipeline.fix.worlds import probe, write_table
from tests.pipeline.labelled import CORNERS, write_pictures

pytestmark = pytest.mark.e2e
# What the labels are, how they are read, and one as a person writes it.
KINDS = {
    "several targets": ({"targets": {"brightness": {"log": True}, "grade": "ordinal", "tone": None}}, {},
                        '[1234.5, 2, "dark"]'),
    "a target that is not known": ({"targets": {"brightness": {"log": True}, "grade": "ordinal"}}, {}, "[null, 2]"),
    "numbers": ({"kind": "regression"}, {"label_column": "brightness"}, "500000"),
    "columns of 0 and 1": ({"kind": "multilabel"}, {"label_column": list(CORNERS)}, "[1, 0, 0, 1]"),
    "texts of labels": ({"kind": "multilabel", "separator": ";"}, {"label_column": "lit"}, "north;west"),
    "lists of labels": ({"kind": "multilabel"}, {}, '["north", "west"]'),
    "lists of marks": ({"kind": "multilabel"}, {}, "[1, 0, 0, 1]"),
}  # fmt: skip


def write_lists(table: Path, *, marks: bool) -> Path:
    """The labels of the corners as lists, in a metadata.jsonl beside the images."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table.unlink()
    lines = []
    for row in rows:
        lit = [int(row[name]) for name in CORNERS]
        label = lit if marks else [name for name, on in zip(CORNERS, lit, strict=True) if on]
        lines.append(json.dumps({"file_name": row["image"], "label": label}))
    table.with_name("metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return table.parent


def labels_of(place: Path, task: object, data: Mapping[str, object], corrections: Path | None) -> dict[str, Label]:
    """Of the dataset's rows, as `train` reads them."""
    more = {} if corrections is None else {"corrections": str(corrections)}
    recipe = load_recipe({"data": {**data, "name": str(place), **more}, "task": task})
    index = scan(recipe.data, seed=recipe.train.seed, reading=recipe.task.reading)
    return {row.name: row.label for rows in index.splits.values() for row in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_and_get_other_labels_and_train_and_fix_read_that(kind: str, tmp_path: Path) -> None:
    task, more, label = KINDS[kind]
    place = write_pictures(tmp_path / "source", 90)
    if kind.startswith("lists"):
        place = write_lists(place, marks="marks" in kind)
    data = {"max_bad_share": 0.2, **more}
    run = probe(place, tmp_path / "run", task=task, data=data)
    record = read_record(run.folder.path)
    assert record is not None
    gone, wrong, other = record.names["train"][0], record.names["train"][1], record.names["validation"][0]
    lines = [(gone, "exclude", ""), (wrong, "relabel", label), (other, "relabel", label)]
    wishes = Wishes(write_table(tmp_path / "t.csv", lines), out=str(tmp_path / "fixed"), score_test=False)
    fixed = fix(run.folder.path, wishes)
    assert fixed.report["fix"]["left_out"] == {"train": 1, "validation": 0, "test": 0}
    assert fixed.report["fix"]["relabelled"] == {"train": 1, "validation": 1, "test": 0}

    table = fixed.folder.path / "corrections.csv"
    before, after = labels_of(place, task, data, None), labels_of(place, task, data, table)
    assert before.keys() - after.keys() == {gone}
    assert repr(after[wrong]) == repr(after[other])
    changed = {name for name in after if repr(after[name]) != repr(before[name])}
    assert changed == {wrong, other}
    again = fix(run.folder.path, Wishes(table, out=str(tmp_path / "again"), score_test=False))
    now = read_record(fixed.folder.path)
    assert now is not None and now == read_record(again.folder.path)
    given = [math.nan if each is None else each for each in now.labels[wrong]]
    assert given == pytest.approx(after[wrong], nan_ok=True)
