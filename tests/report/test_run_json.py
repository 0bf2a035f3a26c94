"""run.json: strict JSON, written at once, discreet."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.errors import RunFolderError
from hf_finetune.report.run_json import as_run_report, read_report, write_report
from hf_finetune.types import Note
from tests.report.example import example


def written(folder: Path, **changes: object) -> dict:
    """As it is in the file; what is written here need not be all of a report."""
    path = write_report(replace(example(), **changes), folder)  # pyright: ignore[reportArgumentType]
    return json.loads(path.read_text("utf-8"))


def test_keys_keep_the_reports_order_and_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    content = written(tmp_path)
    assert list(content) == [
        "format", "recipe", "plan", "versions", "machine", "model", "data", "rungs", "validation", "test", "seconds",
        "peak_bytes", "memory", "files", "extensions", "engine", "task", "findings", "fix", "tables",
    ]  # fmt: skip
    assert list(content["data"]["counts"]) == ["train", "validation", "test"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_measured_numbers_are_rounded_to_6_digits_and_the_recipes_and_plans_are_not(tmp_path: Path) -> None:
    plan = {"learning_rate": {"value": 0.00012345678901, "reason": "r"}}
    content = written(tmp_path, plan=plan, seconds={"training": 141.23456789, "total": 1e-9})
    assert content["seconds"] == {"training": 141.235, "total": 1e-9}
    assert content["rungs"][0]["seconds"] == 141.235
    assert content["plan"] == plan
    assert content["recipe"]["augment"]["crop_ratio"][1] == 4 / 3


def test_nan_and_infinity_become_null_in_strict_json(tmp_path: Path) -> None:
    written(tmp_path, validation={"loss": math.nan, "ece": -math.inf, "accuracy": np.float32(np.nan)})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads((tmp_path / "run.json").read_text("utf-8"), parse_constant=refuse)
    assert content["validation"] == {"loss": None, "ece": None, "accuracy": None}


def test_numpy_values_tuples_and_paths_become_plain_values(tmp_path: Path) -> None:
    changes = {
        "a": np.int64(3),
        "b": np.array([[1, 2]]),
        "c": (True, None),
        7: Path("runs") / "x",
        "d": np.float32(0.5),
    }
    assert written(tmp_path, peak_bytes=changes)["peak_bytes"] == {
        "a": 3, "b": [[1, 2]], "c": [True, None], "7": str(Path("runs") / "x"), "d": 0.5,
    }  # fmt: skip


def test_class_names_of_every_kind_come_back_letter_for_letter(tmp_path: Path) -> None:
    labels = ["n/a", "null", "NaN", "漢字 🐝", 'quote"', "back\\slash", "\u2028", "tab\t"]
    content = written(tmp_path, data={"labels": labels})
    assert content["data"]["labels"] == labels


def test_the_home_folder_and_tokens_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("USERPROFILE", "/home/anna")
    token = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWx"
    notes = ["/home/anna/photos/x.jpg", "in /home/anna", "/home/anna2/keeps", f"401 for {token}", "hf_finetune stays"]
    content = written(tmp_path, data={"notes": notes})
    assert content["data"]["notes"] == [
        "~/photos/x.jpg", "in ~", "/home/anna2/keeps", "401 for hf_***", "hf_finetune stays",
    ]  # fmt: skip


def test_a_value_that_json_has_no_form_for_is_refused_before_the_file_is_touched(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"run\.json has no form for a object"):
        write_report(replace(example(), versions={"torch": object()}), tmp_path)  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "run.json"
    blocked.mkdir()
    (blocked / "file").touch()
    with pytest.raises(RunFolderError) as error:
        write_report(example(), tmp_path)
    assert error.value.message.startswith(f"{blocked} cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(RunFolderError, match="No such file or directory"):
        write_report(example(), tmp_path / "missing")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"recipe": {}}'])
def test_a_damaged_or_foreign_report_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content, "utf-8")
    with pytest.raises(RunFolderError, match=r"run\.json"):
        read_report(path)


def test_notes_come_back_as_they_were_and_those_of_older_runs_as_text(tmp_path: Path) -> None:
    notes = [Note("1 image ignored", "x.jpg"), Note("no names"), "an older note: x.jpg"]
    write_report(replace(example(), data={**example().data, "notes": notes}), tmp_path)
    assert as_run_report(read_report(tmp_path / "run.json")).data["notes"] == notes


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("plan", 7, "plan: Input should be a valid dictionary, found '7'"),
        ("data.counts.train", "many", "data.counts.train: Input should be a valid integer, found 'many'"),
        ("data.labels", ["a", "b"], "validation.per_class: a row for each of the 2 outputs is expected"),
        ("validation.rows", 0, "validation.rows: Input should be greater than or equal to 1, found '0'"),
        ("test.accuracy_low", None, "test.accuracy_low: a number is expected, found None"),
        ("test.confusion", [[1]], "test.confusion: 6 rows of 6 counts of images are expected"),
        ("task.kind", "segmentation", "task.kind: one of classification, multilabel, ordinal, regression, several"),
        ("recipe.train.best_by", "luck", "rungs.0.validation.luck: a number is expected, found None"),
        ("recipe.quantization.kind", "nf4", "model.quantization_config: what the base was quantized by is expected"),
        ("seconds.total", True, "seconds.total: Input should be a valid number, found 'True'"),
        ("plan.device", {"value": "cpu"}, "plan.device: a reason is expected beside the value"),
    ],
)
def test_a_key_that_was_edited_is_named_with_what_is_expected(
    tmp_path: Path, place: str, value: object, said: str
) -> None:
    path = write_report(example(), tmp_path)
    content = json.loads(path.read_text("utf-8"))
    *parents, last = place.split(".")
    inner = content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(RunFolderError, match=re.escape(f"{path} is not as a run writes it: {said}")):
        read_report(path)
