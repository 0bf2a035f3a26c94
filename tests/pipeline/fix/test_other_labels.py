"""Runs whose labels are no single class: fixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_finetune.pipeline.finished import Run
from hf_finetune.pipeline.fix.fix import fix
from hf_finetune.pipeline.fix.taught import Wishes
from hf_finetune.result.split_record import read_record
from tests.pipeline.fix.worlds import probe, write_table
from tests.pipeline.labelled import write_pictures

pytestmark = pytest.mark.e2e
# What the labels are, and a label as a person writes it.
KINDS = {
    "several targets": ({"targets": {"brightness": {"log": True}, "grade": "ordinal", "tone": None}}, {},
                        '[1234.5, 2, "dark"]'),
    "a target that is not known": ({"targets": {"brightness": {"log": True}, "grade": "ordinal"}}, {}, "[null, 2]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_and_get_other_labels(kind: str, tmp_path: Path) -> None:
    task, more, label = KINDS[kind]
    data = {"name": str(write_pictures(tmp_path / "source", 90)), "max_bad_share": 0.2, **more}
    run: Run = probe(tmp_path, tmp_path / "run", task=task, data=data)
    record = read_record(run.folder.path)
    assert record is not None
    gone, wrong, other = record.names["train"][0], record.names["train"][1], record.names["validation"][0]
    lines = [(gone, "exclude", ""), (wrong, "relabel", label), (other, "relabel", label)]
    wishes = Wishes(write_table(tmp_path / "t.csv", lines), out=str(tmp_path / "fixed"), score_test=False)
    fixed = fix(run.folder.path, wishes)
    assert fixed.report["fix"]["left_out"] == {"train": 1, "validation": 0, "test": 0}
    assert fixed.report["fix"]["relabelled"] == {"train": 1, "validation": 1, "test": 0}
