"""Where answers go: every format says the same, no file is half there, and no spreadsheet runs a name."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hf_finetune.errors import DataError, MachineError
from hf_finetune.report.predicted.columns import Cell, columns_of, csv_cell, own_names, text_of_cell
from hf_finetune.report.predicted.output import Output, format_of, kinds_of
from hf_finetune.report.predictions import read_predictions, write_predictions

ROW = {"label": "a", "probability": 0.5}
COLUMNS = columns_of(tuple(ROW), explained=False)
KINDS = kinds_of(COLUMNS, ROW)
NAMES = ("plain.jpg", 'a,"b".jpg', "two\nlines.jpg", "cr\rlf.jpg", "=1+1.jpg", "-x.jpg", "@a.jpg", "grün.jpg",
         "b\udce9.jpg")  # fmt: skip


@dataclass(frozen=True)
class One:
    name: str
    label: str | None = "=cmd()"

    def as_text(self) -> str | None:
        return f"{self.name}  {self.label}" if self.label else None

    def as_json(self) -> Mapping[str, Any]:
        return {"image": self.name, "label": self.label}

    def as_cells(self) -> Mapping[str, Cell]:
        if self.label is None:
            return {"path": self.name, "error": "damaged"}
        return {"path": self.name, "label": self.label, "probability": 0.25, "unlike": True, "distance": 1.5}


def write(format_name: str, file: Path | None, **options: bool) -> Output:
    with Output(format_name, KINDS, file, **options) as output:
        for name in NAMES:
            output.write(One(name))
        output.write(One("bad.jpg", None))
    return output


def test_a_table_keeps_every_name_and_runs_none(tmp_path: Path) -> None:
    write("csv", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS == ("path", "label", "probability", "unlike", "distance", "error")
    expected = [*NAMES[:4], "./=1+1.jpg", "./-x.jpg", "./@a.jpg", "grün.jpg", "b\\udce9.jpg", "bad.jpg"]
    assert [row["path"] for row in rows] == expected
    assert rows[0] == {"path": "plain.jpg", "label": "'=cmd()", "probability": "0.25", "unlike": "true",
                       "distance": "1.5", "error": ""}  # fmt: skip
    assert rows[-1] == {**dict.fromkeys(COLUMNS, ""), "path": "bad.jpg", "error": "damaged"}
    assert os.listdir(tmp_path) == ["a.csv"]  # noqa: PTH208


def test_a_parquet_file_has_types_and_text_as_it_is(tmp_path: Path) -> None:
    write("parquet", tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "path": "string", "label": "string", "probability": "double", "unlike": "bool", "distance": "double",
        "error": "string",
    }  # fmt: skip
    rows = table.to_pylist()
    assert [row["path"] for row in rows[:8]] == list(NAMES[:8])
    assert rows[0]["label"] == "=cmd()" and rows[0]["unlike"] is True
    assert rows[-1]["error"] == "damaged" and rows[-1]["label"] is None
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]


def test_json_lines_are_json_whatever_the_name(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [line["image"] for line in lines] == [*NAMES, "bad.jpg"]


@pytest.mark.parametrize("format_name", ["text", "csv", "jsonl"])
def test_standard_output_gets_the_same_lines(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(format_name, None)
    written = capsys.readouterr().out
    write(format_name, tmp_path / "file")
    with (tmp_path / "file").open(encoding="utf-8", newline="") as file:
        assert file.read().replace("\r\n", "\n") == written


def test_the_suffix_says_the_format() -> None:
    found = [format_of(None, Path(f"a{suffix}")) for suffix in (".csv", ".CSV", ".json", ".jsonl", ".parquet", ".txt")]
    assert found == ["csv", "csv", "jsonl", "jsonl", "parquet", "text"]
    assert format_of(None, None) == "text" and format_of("csv", Path("a.out")) == "csv"
    with pytest.raises(DataError, match=r"--out: a file that ends in \.csv, .* is expected, found a\.xlsx"):
        format_of(None, Path("a.xlsx"))
    with pytest.raises(DataError, match="--format parquet: a file is expected"):
        format_of("parquet", None)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.partial"])
def test_nothing_is_overwritten_unless_it_is_asked_for(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine", "utf-8")
    with pytest.raises(DataError, match=r"is there already, and nothing is overwritten\.\n .*--overwrite"):
        write("csv", tmp_path / "a.csv")
    assert (tmp_path / name).read_text("utf-8") == "mine"
    write("csv", tmp_path / "a.csv", overwrite=True)
    assert len((tmp_path / "a.csv").read_text("utf-8").splitlines()) > 10
    with pytest.raises(DataError, match=r"cannot be written: No such file or directory\.\n  Give a file in a folder"):
        write("csv", tmp_path / "none" / "a.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_interruption_keeps_what_was_answered_beside_the_name(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    output = Output(suffix, KINDS, file)
    with pytest.raises(KeyboardInterrupt), output:
        output.write(One("one.jpg"))
        assert "one.jpg" in (tmp_path / f"a.{suffix}.partial").read_text("utf-8")  # on disk already
        output.write(One("two.jpg"))
        raise KeyboardInterrupt
    as_lines = ", as JSON lines" if suffix == "parquet" else ""
    assert output.kept == f"2 answers are in {file}.partial{as_lines}"
    assert not file.exists()
    assert [line.count(".jpg") for line in Path(f"{file}.partial").read_text("utf-8").splitlines()][-2:] == [1, 1]
    empty = Output(suffix, KINDS, tmp_path / f"b.{suffix}")
    with pytest.raises(KeyboardInterrupt), empty:
        raise KeyboardInterrupt
    assert empty.kept == "" and list(tmp_path.glob("b.*")) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "a.jsonl.partial").symlink_to("/dev/full")  # every write there fails as on a full disk
    with pytest.raises(MachineError, match=r"a\.jsonl cannot be written: No space left on device"):
        write("jsonl", tmp_path / "a.jsonl", overwrite=True)
    assert not (tmp_path / "a.jsonl").exists()


def test_a_column_of_the_answer_that_is_called_like_ours_is_told_apart() -> None:
    row = {"distance": 12.0, "depth": 3.0}
    assert own_names(tuple(row)) == ("predicted distance", "depth")
    assert kinds_of(columns_of(tuple(row), explained=True), row) == {
        "path": str, "predicted distance": float, "depth": float, "unlike": bool, "distance": float, "explained": str,
        "error": str,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cell"),
    [("-1", "-1"), ("+2.5", "+2.5"), ("-", "'-"), ("=A1", "'=A1"), ("\tx", "'\tx"), ("a=b", "a=b"), ("", "")],
)
def test_a_number_is_no_formula(text: str, cell: str) -> None:
    assert csv_cell("label", text) == cell


@pytest.mark.parametrize("text", ["=1", "'=1", "''=1", "'quoted'", "'", "-", "-1", "'-1", "./=1", "\tx", "plain", ""])
def test_a_mark_is_taken_off_again(text: str) -> None:
    assert text_of_cell("label", csv_cell("label", text)) == text
    assert not csv_cell("label", text).startswith(("=", "\t"))


def test_a_marked_path_names_its_file() -> None:
    assert [text_of_cell("path", csv_cell("path", name)) for name in NAMES] == list(NAMES)


def test_what_was_predicted_of_odd_names_is_read_again_and_runs_nowhere(tmp_path: Path) -> None:
    columns, lines = ("label", "=x"), [("=cmd()", "-0.5"), ("'=a", "nan"), ("@b", "+")]
    write_predictions(tmp_path / "predictions.csv", "test", NAMES[4:7], columns, lines)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        cells = {cell for line in csv.reader(file) for cell in line}
    assert {cell for cell in cells if cell.startswith(("=", "+", "-", "@"))} == {"-0.5"}
    assert read_predictions(tmp_path / "predictions.csv") == [
        {"split": "test", "row": name, "label": label, "=x": value}
        for name, (label, value) in zip(NAMES[4:7], lines, strict=True)
    ]
