"""Every kind of task from a table to a result: what the run says is what the result says, and stock libraries too."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, r2_score

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.pipeline.finished import Run, read_run
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.run.folder import RunFolder
from tests.pipeline.labelled import CORNERS, write_pictures

TASKS: dict[str, tuple[list[str], str, float]] = {
    "classification": (["data.label_column=tone"], "accuracy", 0.8),
    "regression": (
        ["data.label_column=brightness", "task.unit=lux", "task.log=true", "data.max_bad_share=0.2"],
        "r2",
        0.7,
    ),
    "multilabel": (["data.label_column=lit", "task.kind=multilabel", "task.separator=;"], "map", 0.6),
    "ordinal": (["data.label_column=grade", "task.kind=ordinal"], "kappa", 0.7),
    "several": (
        ["task.targets={brightness: {log: true}, tone: auto, grade: ordinal}", "task.weights.tone=2"],
        "mean_score",
        0.7,
    ),
}
pytestmark = [
    pytest.mark.e2e,
    # Of transformers' own loading, in the card's lines.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
each_task = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A probe of each kind."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for kind, (overrides, _, _) in TASKS.items():
        line = [f"data.name={table}", f"data.cache_dir={folder / 'cache'}", "ladder=[probe]", *overrides]
        assert main(["train", "model.name=builtin:starter", f"output.dir={folder / kind}", "data.test_share=0.25",
                     "data.validation_share=0.25", *line]) == 0  # fmt: skip
        found[kind] = read_run(RunFolder(folder / kind))
    return found


@each_task
def test_a_probe_learns_it(runs: dict[str, Run], kind: str) -> None:
    _, metric, least = TASKS[kind]
    assert runs[kind].report["task"]["kind"] == kind
    assert runs[kind].report["test"][metric] > least
    assert "on test: " in runs[kind].folder.page.read_text(encoding="utf-8")


@each_task
def test_evaluate_says_of_the_result_what_the_run_said(
    runs: dict[str, Run], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, metric, _ = TASKS[kind]
    assert main(["evaluate", str(runs[kind].folder.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = runs[kind].report["test"]
    assert found["rows"] == told["rows"]
    assert found[metric] == pytest.approx(told[metric], abs=1e-3)
    assert main(["evaluate", str(runs[kind].folder.path)]) == 0


def test_classes_of_several_targets_are_scored_by_name_where_a_split_lacks_one(
    runs: dict[str, Run], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three tones only two are there: their numbers among those would be others."""
    lines = table.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("tone")
    kept = [lines[0], *(line for line in lines[1:] if line.split(",")[place] != "bright")]
    part = table.with_name("two_tones.csv")
    part.write_text("\n".join(kept), encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(runs["several"].folder.path), "--data", str(part), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["rows"] == len(kept) - 1
    assert score["tone.accuracy"] > 0.8


def rows_of(run: Run) -> dict[str, list[str]]:
    with run.folder.predictions.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {key: [line[key] for line in lines] for key in lines[0]}


def test_metrics_can_be_computed_again_from_the_predictions(runs: dict[str, Run]) -> None:
    rows = rows_of(runs["regression"])
    true, said = (np.log([float(each) for each in rows[key]]) for key in ("label", "predicted"))
    assert runs["regression"].report["test"]["r2"] == pytest.approx(r2_score(true, said), abs=1e-4)
    rows = rows_of(runs["ordinal"])
    kappa = cohen_kappa_score(list(map(int, rows["label"])), list(map(int, rows["predicted"])), weights="quadratic")
    assert runs["ordinal"].report["test"]["kappa"] == pytest.approx(kappa, abs=1e-4)
    rows = rows_of(runs["multilabel"])
    true, said = ([[name in cell.split("; ") for name in sorted(CORNERS)] for cell in rows[key]]
                  for key in ("labels", "predicted"))  # fmt: skip
    assert runs["multilabel"].report["test"]["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"), 1e-4)
    rows = rows_of(runs["several"])
    known = [(np.log(float(one)), np.log(float(other))) for one, other in
             zip(rows["brightness label"], rows["brightness predicted"], strict=True) if one]  # fmt: skip
    assert len(known) < len(rows["row"])  # rows that lack a number are scored on the others
    expected = r2_score(*np.array(known).T)
    assert runs["several"].report["test"]["brightness.r2"] == pytest.approx(expected, abs=1e-4)


@each_task
def test_the_cards_lines_say_with_stock_libraries_what_predict_says(
    runs: dict[str, Run], kind: str, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (runs[kind].result / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("ADAPTER_PATH_OR_HUB_ID", str(runs[kind].result))
    monkeypatch.chdir(table.parent)
    capsys.readouterr()
    exec(compile(code.replace("photo.jpg", "008.png"), "card", "exec"), {})
    printed = capsys.readouterr().out
    (said,) = runs[kind].model.predict([table.parent / "008.png"])
    for expected in numbers_of(said.as_json()):
        near = [number for number in numbers_in(printed) if abs(number - expected) <= 1e-4 * max(1, abs(expected))]
        assert near, (expected, printed)


def numbers_of(said: Any) -> list[float]:
    if isinstance(said, dict):
        return [each for key, value in said.items() if key != "unit" for each in numbers_of(value)]
    if isinstance(said, list):
        return [each for value in said for each in numbers_of(value)]
    return [float(said)] if isinstance(said, float) else []


def numbers_in(printed: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.\d+(?:e[-+]\d+)?", printed)]


@each_task
def test_predict_prints_a_line_for_each_image(
    runs: dict[str, Run], kind: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["predict", str(runs[kind].folder.path), str(table.parent), "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 160


PREDICTED = {
    "classification": ["label", "probability", "label_2", "probability_2", "among"],
    "ordinal": ["label", "probability", "label_2", "probability_2"],
    "regression": ["brightness", "brightness low", "brightness high"],
    "multilabel": ["labels", "label", "probability", "label_2", "probability_2"],
    "several": ["brightness", "brightness low", "brightness high", "tone", "tone probability", "tone_2",
                "tone probability_2", "tone among", "grade", "grade probability", "grade_2", "grade probability_2"],
}  # fmt: skip


@each_task
def test_predict_writes_a_table_and_what_was_looked_at_for_each_kind(
    runs: dict[str, Run], kind: str, table: Path, tmp_path: Path
) -> None:
    command = ["predict", str(runs[kind].folder.path), str(table), "data.image_column=image", "gone.png"]
    shown = ["--top", "2", "--out", str(tmp_path / "a.csv"), "--explain", str(tmp_path / "seen")]
    assert main([*command, *shown]) == 2
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        *rows, gone = list(csv.DictReader(file))
    assert list(gone) == ["path", *PREDICTED[kind], "unlike", "distance", "explained", "error"]
    assert {name for name, cell in gone.items() if cell} == {"path", "error"}
    assert [row["path"] for row in rows] == [f"{number:03}.png" for number in range(160)]  # the table's own cells
    files = [str(table.parent / row["path"]) for row in rows]
    for row, said in zip(rows, runs[kind].model.predict(files), strict=True):
        expected = {name: str(cell) for name, cell in said.as_row(2).items()}
        texts = {name: cell for name, cell in expected.items() if isinstance(said.as_row(2)[name], str)}
        assert {name: row[name] for name in texts} == texts
        for name in expected.keys() - texts.keys():
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3, abs=1e-4)
    assert len(list((tmp_path / "seen").glob("*.png"))) == 160


@each_task
def test_images_are_sorted_by_one_class_and_by_nothing_else(
    runs: dict[str, Run], kind: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["predict", str(runs[kind].folder.path), str(table.parent / "000.png"), "--sort-into", str(tmp_path / "to")]
    code = main(line)
    out, err = capsys.readouterr()
    if kind in ("classification", "ordinal"):
        assert code == 0 and len(list((tmp_path / "to").glob("*/000.png"))) == 1
        return
    assert (code, out) == (2, "") and "--sort-into: a result that says one class of each image is expected" in err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("kind", ["regression", "several"])
def test_a_trained_rung_learns_it_too(table: Path, tmp_path: Path, kind: str) -> None:
    recipe = load_recipe(
        {
            "model": {"name": "builtin:starter"},
            "data": {"name": str(table), "cache_dir": str(tmp_path / "cache"), "test_share": 0.25},
            "train": {"epochs": 6, "effective_batch_size": 16},
            "ladder": ["full"],
            "output": {"dir": str(tmp_path / "run")},
        },
        TASKS[kind][0],
    )
    run = hf_finetune.train(recipe)
    assert run.report["test"][TASKS[kind][1]] > 0.5
