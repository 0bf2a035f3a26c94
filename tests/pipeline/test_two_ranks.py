"""Two real processes on CPUs do the work of one: same updates, same metrics, same store, same result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.photos import write_photos
from tests.pipeline.labelled import write_pictures
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "accelerate_configs" / "cpu_multi.yaml"
ON_CPUS = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """54 training rows in batches of 16: 20 updates that end inside an epoch, with mixing."""
    folder = tmp_path_factory.mktemp("ranks")
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{name: {save_tiny_vit(folder / 'tiny')}}}\n"
        f"data: {{name: {write_photos(folder / 'photos', per_class=24)}, validation_share: 0.25}}\n"
        "augment: {mixup: 0.4, cutmix: 1.0}\n"
        "task: {class_weights: auto}\n"
        "train: {epochs: 6.67, effective_batch_size: 16, learning_rate: 0.003, evaluations: 2, decode_workers: 1, "
        "precision: fp32}\n",
        encoding="utf-8",
    )
    return path


RUNS = {
    "none": ("quantization.kind=none",),
    "int8": ("quantization.kind=int8",),
    "still": ("train.learning_rate=1e-12", "train.weight_decay=0"),
    "probe": ("ladder=[probe]", "augment={}"),
}
ONE_AFTER_ANOTHER = """
import json, sys
from hf_finetune.cli import main
sys.exit(any([main(line) for line in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each of RUNS, trained by one process: the same one for all, to import the libraries once."""
    folder = tmp_path_factory.mktemp("alone")
    lines = [
        ["train", str(recipe), f"output.dir={folder / name}", f"data.cache_dir={folder / 'cache' / name}", *overrides]
        for name, overrides in RUNS.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(lines)],
        capture_output=True,
        text=True,
        env={**os.environ, **ON_CPUS},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def train(recipe: Path, out: Path, processes: int, *overrides: str) -> dict[str, Any]:
    launcher = [sys.executable, "-m", "hf_finetune"]
    if processes > 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
        launcher = [*launch, "--num_processes", str(processes), "-m", "hf_finetune"]
    done = subprocess.run(
        [*launcher, "train", str(recipe), f"output.dir={out}", *overrides],
        capture_output=True,
        text=True,
        env={**os.environ, **ON_CPUS},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return report_of(out)


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text("utf-8"))


def trained(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("quantization", ["none", pytest.param("int8", marks=pytest.mark.slow)])
def test_two_processes_train_like_one(recipe: Path, alone: Path, tmp_path: Path, quantization: str) -> None:
    one = report_of(alone / quantization)
    two = train(recipe, tmp_path / "two", 2, *RUNS[quantization])
    assert (one["machine"]["world_size"], two["machine"]["world_size"]) == (1, 2)
    assert two["plan"]["steps"]["value"] == 20
    assert two["plan"]["micro_batch"]["value"] == 8
    for name, value in trained(alone / quantization).items():
        # Relative for what is larger than 1: the closed-form head, where a solve magnifies the order of a sum.
        torch.testing.assert_close(value, trained(tmp_path / "two")[name], atol=1e-4, rtol=1e-4)
    # every row is scored once: the very same rows and labels
    folders = (alone / quantization, tmp_path / "two")
    files = [(folder / "predictions.csv").read_text("utf-8").splitlines() for folder in folders]
    rows = [[line.split(",")[:-2] for line in file] for file in files]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1 + 72
    # Weights that differ by 1e-4 may answer otherwise where two classes are that close.
    answers = [[line.split(",")[-2] for line in file] for file in files]
    assert sum(one != two for one, two in zip(*answers, strict=True)) <= 1


def test_a_balanced_sampler_draws_alike_on_one_and_two_processes(recipe: Path, tmp_path: Path) -> None:
    """Of one class four photos, so that an epoch repeats them."""
    photos = tmp_path / "photos"
    shutil.copytree(recipe.parent / "photos", photos)
    rare = min(each for each in (photos / "train").iterdir() if each.is_dir())
    for photo in sorted(rare.iterdir())[4:]:
        photo.unlink()
    balanced = (
        f"data.name={photos}",
        "task.class_weights=none",
        "train.sampler=balanced",
        f"data.cache_dir={tmp_path}",
    )
    reports = [train(recipe, tmp_path / str(count), count, *balanced) for count in (1, 2)]
    assert [each["machine"]["world_size"] for each in reports] == [1, 2]
    assert reports[0]["recipe"]["train"]["best_by"] == "balanced_accuracy"
    for name, value in trained(tmp_path / "1").items():
        torch.testing.assert_close(value, trained(tmp_path / "2")[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rung", ["probe", pytest.param("full", marks=pytest.mark.slow)])
def test_every_kind_of_label_trains_alike_on_one_and_two_processes(recipe: Path, tmp_path: Path, rung: str) -> None:
    """All in one adapter, with rows that lack a number and pairs that belong together."""
    line = (
        f"data.name={write_pictures(tmp_path / 'pictures', 120)}",
        f"data.cache_dir={tmp_path / 'cache'}",
        r"data.group_pattern=(\d\d)\.png",  # 20 pairs, which are left out together whichever process passed over them
        'task={kind: several, targets: {brightness: {log: true}, tone: auto, grade: ordinal, lit: {separator: ";"}}}',
        f"ladder=[{rung}]",
        "train.epochs=3",
    )
    one, two = (train(recipe, tmp_path / str(count), count, *line) for count in (1, 2))
    assert (one["machine"]["world_size"], two["machine"]["world_size"]) == (1, 2)
    assert one["rungs"][0]["note"] == two["rungs"][0]["note"]  # penalties, and figures of rows left out
    assert ("leave-group-out" in one["rungs"][0]["note"]) == (rung == "probe")
    for name, value in trained(tmp_path / "1").items():
        # Labels that can be told apart without an error have a flat loss: logistic regression ends where it is small
        # enough, and not twice at the same place. Numbers, the first output, are in closed form.
        rows = slice(1) if rung == "probe" and "classifier" in name else slice(None)
        torch.testing.assert_close(value[rows], trained(tmp_path / "2")[name][rows], atol=1e-4, rtol=1e-4, msg=name)
    flat = ("loss", "ece") if rung == "probe" else ()
    for key, value in one["test"].items():
        if isinstance(value, float) and (key.startswith("brightness") or not key.endswith(flat)):
            assert two["test"][key] == pytest.approx(value, abs=0.05, rel=0.01), key
    widths = [each["task"]["targets"][0]["task"]["half_widths"][0] for each in (one, two)]
    assert widths[0] == pytest.approx(widths[1], rel=1e-3)
    if rung == "probe":
        first, second = (load_file(tmp_path / count / "adapter" / "typical.safetensors") for count in ("1", "2"))
        torch.testing.assert_close(first["threshold"], second["threshold"], rtol=1e-3, atol=0)


def test_the_same_weights_score_the_same_on_one_and_two_processes(recipe: Path, alone: Path, tmp_path: Path) -> None:
    """With a learning rate too small to matter, both runs hold the same weights at every evaluation."""
    train(recipe, tmp_path / "two", 2, *RUNS["still"])
    metrics = []
    for out in (alone / "still", tmp_path / "two"):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
        metrics.append([line for line in lines if "eval_loss" in line])
    names = ["eval_accuracy", "eval_macro_f1", "eval_ece"]
    for a, b in zip(*metrics, strict=True):
        # Each process has half of a batch: its sums have another order. Logits of about 10 in float32 differ by 1e-5.
        assert [a[name] for name in names] == pytest.approx([b[name] for name in names], abs=1e-4)
        assert a["eval_loss"] == pytest.approx(b["eval_loss"], abs=1e-4)


def test_the_probe_gives_the_same_head_on_one_and_two_processes(recipe: Path, alone: Path, tmp_path: Path) -> None:
    one, two = report_of(alone / "probe"), train(recipe, tmp_path / "two", 2, *RUNS["probe"])
    assert one["rungs"][0]["note"] == two["rungs"][0]["note"]  # penalty and leave-one-out accuracy
    heads = trained(alone / "probe"), trained(tmp_path / "two")
    for name, weight in heads[0].items():
        torch.testing.assert_close(heads[1][name], weight, rtol=1e-4, atol=1e-4, msg=name)


def test_fewer_processes_than_asked_for_are_told() -> None:
    code = (
        "import sys\nfrom hf_finetune.machine import processes\nfrom hf_finetune.machine.detect import detect\n"
        "from dataclasses import replace\nfrom hf_finetune.errors import MachineError\n"
        "machine = replace(detect(), world_size=2)\n"
        "try: processes.join(machine)\n"
        "except MachineError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "2 processes were asked for, but 1 runs." in done.stdout
