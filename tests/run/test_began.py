"""A run goes on with what it began with, or says what is another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_finetune.errors import RunFolderError
from hf_finetune.run.began import (
    Began,
    began_with,
    refuse_changed_data,
    refuse_changed_start,
    refuse_other_extensions,
    settle_base,
    write_plan,
)
from hf_finetune.run.checkpoints import is_whole, seal
from hf_finetune.run.folder import RunFolder, read_plan
from tests.report.example import plan

BEGAN = Began("rows of Monday", "adapter 1", {"loss": "mine at 12"}, "weights 1")
DAMAGE = {"lost": None, "cut": '{"device": {"va', "empty": "", "another thing": "[1]"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """With the result of a first rung."""
    folder = RunFolder(tmp_path)
    folder.result(whole=False).mkdir()
    write_plan(folder, plan(), BEGAN)
    return folder


def checkpoint(folder: RunFolder, of: Mapping[str, Any], step: int = 4) -> Path:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(bytes(step))
    seal(path, of)
    return path


def index(revision: str) -> Any:
    return SimpleNamespace(revision=revision, source="photos/")


def test_what_it_began_with_is_read_back_beside_the_plan(folder: RunFolder) -> None:
    assert began_with(folder) == BEGAN
    assert read_plan(folder).device == plan().device
    refuse_changed_data(folder, index("rows of Monday"))
    refuse_changed_start(folder, "adapter 1")
    refuse_other_extensions(folder, {"loss": "mine at 12"})


def test_other_things_are_refused_each_by_its_name(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"files, labels or times of photos/ have changed since"):
        refuse_changed_data(folder, index("rows of Tuesday"))
    with pytest.raises(RunFolderError, match="began on another state of the adapter"):
        refuse_changed_start(folder, "adapter 2")
    with pytest.raises(RunFolderError, match=r"others of the program's own: loss= \(mine at 12, now None\)"):
        refuse_other_extensions(folder, {})


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_plan_hides_nothing_while_there_are_checkpoints(folder: RunFolder, damage: str) -> None:
    path = checkpoint(folder, asdict(BEGAN))
    text = DAMAGE[damage]
    folder.plan.unlink() if text is None else folder.plan.write_text(text)
    assert is_whole(path) and began_with(folder) == BEGAN
    with pytest.raises(RunFolderError, match="have changed since"):
        refuse_changed_data(folder, index("rows of Tuesday"))


@pytest.mark.parametrize("damage", DAMAGE)
def test_nor_where_the_run_is_finished(folder: RunFolder, damage: str) -> None:
    folder.report.write_text(json.dumps({"data": {"revision": BEGAN.data_revision}, "extensions": {}}))
    text = DAMAGE[damage]
    folder.plan.unlink() if text is None else folder.plan.write_text(text)
    refuse_changed_data(folder, index("rows of Monday"))
    with pytest.raises(RunFolderError, match="have changed since"):
        refuse_changed_data(folder, index("rows of Tuesday"))


@pytest.mark.parametrize("damaged", [False, True])
def test_where_nothing_was_trained_anything_may_begin(tmp_path: Path, damaged: bool) -> None:
    folder = RunFolder(tmp_path)
    assert began_with(folder) is None
    write_plan(folder, plan(), BEGAN)  # refused, or killed, before it trained: one photo was broken
    if damaged:
        folder.plan.write_text("{")
    refuse_changed_data(folder, index("rows of Tuesday"))
    refuse_changed_start(folder, "adapter 2")
    refuse_other_extensions(folder, {"loss": "other"})


def test_checkpoints_of_other_weights_are_not_gone_on_from(folder: RunFolder) -> None:
    other = replace(BEGAN, base="weights 2")
    settle_base(folder, plan(), other, "ns/tiny")  # nothing was trained yet
    assert began_with(folder) == other
    checkpoint(folder, asdict(other))
    settle_base(folder, plan(), other, "ns/tiny")
    with pytest.raises(RunFolderError, match=r"began on other weights of ns/tiny than are there now\.") as raised:
        settle_base(folder, plan(), BEGAN, "ns/tiny")
    assert "model.revision" in str(raised.value)
    folder.plan.unlink()  # the seals say so, too
    with pytest.raises(RunFolderError, match="other weights"):
        settle_base(folder, plan(), BEGAN, "ns/tiny")
