"""Two real processes on CPUs do the work of one: same updates, same metrics, same store, same result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.photos import write_photos
from tests.pipeline.labelled import write_pictures
from tests.pipeline.launched import CONFIG, ON_CPUS, ROOT
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e


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


LABELS = (
    r"data.group_pattern=(\d\d)\.png",  # 20 pairs, which are left out together whichever process passed over them
    'task={kind: several, targets: {brightness: {log: true}, tone: auto, grade: ordinal, lit: {separator: ";"}}}',
    "train.epochs=3",
)


@pytest.fixture(scope="module")
def runs(recipe: Path) -> dict[str, tuple[str, ...]]:
    """The overrides of each run."""
    photos, pictures = recipe.parent / "rare", f"data.name={write_pictures(recipe.parent / 'pictures', 120)}"
    shutil.copytree(recipe.parent / "photos", photos)
    rare = min(each for each in (photos / "train").iterdir() if each.is_dir())
    for photo in sorted(rare.iterdir())[4:]:  # of one class four photos, so that a balanced epoch repeats them
        photo.unlink()
    return {
        "none": ("quantization.kind=none",),
        "int8": ("quantization.kind=int8",),
        "still": ("train.learning_rate=1e-12", "train.weight_decay=0"),
        "probe": ("ladder=[probe]", "augment={}"),
        "balanced": (f"data.name={photos}", "task.class_weights=none", "train.sampler=balanced"),
        "labels probe": (pictures, *LABELS, "ladder=[probe]"),
        "labels full": (pictures, *LABELS, "ladder=[full]"),
    }


USUAL = ("none", "still", "probe", "balanced", "labels probe")


@dataclass(frozen=True)
class Trained:
    """Folders of runs by name: by one process, and by two. The usual ones are there, others are trained on demand."""

    recipe: Path
    runs: dict[str, tuple[str, ...]]
    folder: Path

    def pair(self, name: str) -> tuple[Path, Path]:
        places = self.folder / "1" / name, self.folder / "2" / name
        for count, place in enumerate(places, 1):
            if not place.is_dir():
                self.train(count, name)
        return places

    def train(self, processes: int, *names: str) -> None:
        """In one program, where each process imports the libraries once."""
        lines = [(str(self.recipe), self.overrides(processes, name)) for name in names]
        launch(processes, "tests.pipeline.one_after_another", json.dumps(lines))

    def overrides(self, processes: int, name: str) -> list[str]:
        """No run finds what another one decoded or computed."""
        folder = self.folder / str(processes)
        return [f"output.dir={folder / name}", f"data.cache_dir={folder / 'caches' / name}", *self.runs[name]]


@pytest.fixture(scope="module")
def both(recipe: Path, runs: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    trained = Trained(recipe, runs, tmp_path_factory.mktemp("both"))
    # One run goes through the command line, as launchers start it.
    launch(2, "hf_finetune", "train", str(recipe), *trained.overrides(2, "none"))
    trained.train(1, *USUAL)
    trained.train(2, *USUAL[1:])
    return trained


def launch(processes: int, module: str, *arguments: str) -> None:
    launcher = [sys.executable]
    if processes > 1:
        options = ["--config_file", str(CONFIG), "--num_processes", str(processes)]
        launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    done = subprocess.run(
        [*launcher, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **ON_CPUS},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text("utf-8"))


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("quantization", ["none", pytest.param("int8", marks=pytest.mark.slow)])
def test_two_processes_train_like_one(both: Trained, quantization: str) -> None:
    folders = both.pair(quantization)
    one, two = map(report_of, folders)
    assert (one["machine"]["world_size"], two["machine"]["world_size"]) == (1, 2)
    assert two["plan"]["steps"]["value"] == 20
    assert two["plan"]["micro_batch"]["value"] == 8
    weights = weights_of(folders[1])
    for name, value in weights_of(folders[0]).items():
        # Relative for what is larger than 1: the closed-form head, where a solve magnifies the order of a sum.
        torch.testing.assert_close(value, weights[name], atol=1e-4, rtol=1e-4)
    # every row is scored once: the very same rows and labels
    files = [(folder / "predictions.csv").read_text("utf-8").splitlines() for folder in folders]
    rows = [[line.split(",")[:-2] for line in file] for file in files]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1 + 72
    # Weights that differ by 1e-4 may answer otherwise where two classes are that close.
    answers = [[line.split(",")[-2] for line in file] for file in files]
    assert sum(one != two for one, two in zip(*answers, strict=True)) <= 1


def test_a_balanced_sampler_draws_alike_on_one_and_two_processes(both: Trained) -> None:
    folders = both.pair("balanced")
    reports = [report_of(folder) for folder in folders]
    assert [each["machine"]["world_size"] for each in reports] == [1, 2]
    assert reports[0]["recipe"]["train"]["best_by"] == "balanced_accuracy"
    weights = weights_of(folders[1])
    for name, value in weights_of(folders[0]).items():
        torch.testing.assert_close(value, weights[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rung", ["probe", pytest.param("full", marks=pytest.mark.slow)])
def test_every_kind_of_label_trains_alike_on_one_and_two_processes(both: Trained, rung: str) -> None:
    """All in one adapter, with rows that lack a number and pairs that belong together."""
    folders = both.pair(f"labels {rung}")
    one, two = map(report_of, folders)
    assert (one["machine"]["world_size"], two["machine"]["world_size"]) == (1, 2)
    assert one["rungs"][0]["note"] == two["rungs"][0]["note"]  # penalties, and figures of rows left out
    assert ("leave-group-out" in one["rungs"][0]["note"]) == (rung == "probe")
    weights = weights_of(folders[1])
    for name, value in weights_of(folders[0]).items():
        # Labels that can be told apart without an error have a flat loss: logistic regression ends where it is small
        # enough, and not twice at the same place. Numbers, the first output, are in closed form.
        rows = slice(1) if rung == "probe" and "classifier" in name else slice(None)
        torch.testing.assert_close(value[rows], weights[name][rows], atol=1e-4, rtol=1e-4, msg=name)
    flat = ("loss", "ece") if rung == "probe" else ()
    for key, value in one["test"].items():
        if isinstance(value, float) and (key.startswith("brightness") or not key.endswith(flat)):
            assert two["test"][key] == pytest.approx(value, abs=0.05, rel=0.01), key
    widths = [each["task"]["targets"][0]["task"]["half_widths"][0] for each in (one, two)]
    assert widths[0] == pytest.approx(widths[1], rel=1e-3)
    if rung == "probe":
        first, second = (load_file(folder / "adapter" / "typical.safetensors") for folder in folders)
        torch.testing.assert_close(first["threshold"], second["threshold"], rtol=1e-3, atol=0)


def test_the_same_weights_score_the_same_on_one_and_two_processes(both: Trained) -> None:
    """With a learning rate too small to matter, both runs hold the same weights at every evaluation."""
    metrics = []
    for out in both.pair("still"):
        assert report_of(out)["machine"]["world_size"] == 1 + len(metrics)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
        metrics.append([line for line in lines if "eval_loss" in line])
    names = ["eval_accuracy", "eval_macro_f1", "eval_ece"]
    for a, b in zip(*metrics, strict=True):
        # Each process has half of a batch: its sums have another order. Logits of about 10 in float32 differ by 1e-5.
        assert [a[name] for name in names] == pytest.approx([b[name] for name in names], abs=1e-4)
        assert a["eval_loss"] == pytest.approx(b["eval_loss"], abs=1e-4)


def test_the_probe_gives_the_same_head_on_one_and_two_processes(both: Trained) -> None:
    folders = both.pair("probe")
    one, two = map(report_of, folders)
    assert (one["machine"]["world_size"], two["machine"]["world_size"]) == (1, 2)
    assert one["rungs"][0]["note"] == two["rungs"][0]["note"]  # penalty and leave-one-out accuracy
    heads = [weights_of(folder) for folder in folders]
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
