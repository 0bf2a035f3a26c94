"""The cheapest reference script, and the choice among the runs of one, as processes of their own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

pytestmark = pytest.mark.e2e

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Validation and test lack the first class: a script that numbers each folder's classes anew is wrong about them all.
COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}
SPLITS = {"train": (list(COLOURS), 4), "validation": (["green", "red"], 2), "test": (["green", "red"], 3)}


def run(script: str, *arguments: object) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, (names, count) in SPLITS.items():
        for name in names:
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                shade = tuple(value - 5 * number for value in COLOURS[name])
                Image.new("RGB", (40 + number, 36), shade).save(folder / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_vit"), tmp_path / "model", safe_serialization=True)
    return tmp_path / "model"


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_frozen_features_name_the_test_photos_and_record_how_they_came_there(
    model: Path, data: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    run("references/frozen_features.py", "--model", model, "--data", data, "--out", out, "--kind", kind)
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"]: row["predicted"] for row in rows} == {
        f"{name}/{number}.png": name for name in ("green", "red") for number in range(3)
    }
    lines = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    validations = [line["validation"] for line in lines if "validation" in line]
    assert len(validations) == 13
    assert max(validations) == 1.0
    assert {line["stage"]: line["images"] for line in lines if "stage" in line} == {
        "features": 16,
        "fit": 12,
        "test": 6,
    }
    assert list(lines[0]) == ["imported", "anonymous_bytes"]
    assert list(lines[-2]) == ["saved"]  # before the test photos were looked at
    pipeline = joblib.load(out / "model" / "pipeline.joblib")
    assert pipeline.classes_.tolist() == list(COLOURS)


def tuned(folder: Path, reached: dict[str, list[float]]) -> dict[str, Any]:
    """What tune.py makes of timm's finished runs with these accuracies by learning rate; it may start none."""
    for rate, accuracies in reached.items():
        place = folder / "out" / "timm_script" / rate
        place.mkdir(parents=True)
        lines = [{"validation": accuracy, "seconds": 1.0} for accuracy in accuracies] + [{"saved": 2.0}]
        (place / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    nowhere, into = folder / "nowhere", folder / "tuned.json"  # a run would fail on it
    places = ("--model", nowhere, "--data", nowhere, "--out", folder / "out", "--into", into)
    run("tune.py", *places, "--only", "timm_script")
    return json.loads(into.read_text())["timm_script"]


def test_tuning_takes_the_best_validation_and_of_equals_the_one_nearest_to_the_documented(tmp_path: Path) -> None:
    found = tuned(tmp_path, {"0.0001": [0.2, 0.7], "3e-05": [0.9, 0.5], "0.0003": [0.9], "0.001": [0.9]})
    assert found["validation"] == {"3e-05": 0.9, "0.0001": 0.7, "0.0003": 0.9, "0.001": 0.9}
    assert found["learning_rate"] == 0.0003  # ln 3 away; 3e-5 is ln 3.33 away


def test_tuning_goes_on_where_an_end_of_the_grid_is_best(tmp_path: Path) -> None:
    inside = {"3e-05": [0.1], "0.0001": [0.2], "0.0003": [0.3], "0.001": [0.4]}
    found = tuned(tmp_path, {**inside, "0.0033": [0.6], "0.011": [0.5]})
    assert found["learning_rate"] == 0.0033
    assert list(found["validation"].values()) == [0.1, 0.2, 0.3, 0.4, 0.6, 0.5]
