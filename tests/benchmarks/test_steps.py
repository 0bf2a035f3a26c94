"""The benchmark of training steps: a way trains and is measured, and what failed is said in the table."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/steps.py` has it

from micro.models import write_checkpoint  # noqa: E402
from micro.photos import write_photos  # noqa: E402
from step_work import build  # noqa: E402
from steps import table  # noqa: E402

pytestmark = pytest.mark.e2e


@pytest.mark.slow
def test_a_step_and_a_pass_of_our_way_are_measured_on_this_machine(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "steps.py"), str(tmp_path)]
    command += ["--architectures", "vit_tiny_patch16_224", "--batches", "1", "2", "--quantizations", "none"]
    command += ["--ways", "ours", "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "steps.json").read_text())["rows"]
    assert [(row["way"], row["batch"]) for row in rows] == [("ours", 1), ("ours", 2)]
    for row in rows:
        assert row["step"]["seconds"] > 0 and row["forward"]["seconds"] > 0, row
        assert row["step"]["bytes"] > 10_000_000 and row["share"] > 0, row
    assert done.stdout.splitlines()[2].startswith("| ours | ")


@pytest.mark.slow
def test_a_batch_that_fails_leaves_the_smaller_ones_their_rows(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", per_class=6)
    command = [sys.executable, str(ROOT / "benchmarks" / "step_work.py"), str(tmp_path), "--way", "ours"]
    command += ["--checkpoint", str(write_checkpoint(tmp_path / "checkpoint", depth=1)), "--quantization", "none"]
    command += ["--batches", "1", str(10**9), "--seconds", "0"]  # 600 TB of pixels
    done = subprocess.run(command, input="go\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert first["step"]["seconds"] > 0 and first["forward"]["seconds"] > 0
    assert "memory" in second["reason"] and "step" not in second


def test_our_way_is_measured_in_the_form_that_trains(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", per_class=6)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", depth=1)
    with ExitStack() as forms:
        model, autocast = build("ours", "none", checkpoint, tmp_path, forms)
        gc.collect()
        assert any("forward" in vars(module) for module in model.modules()) is not autocast


def test_a_way_that_ran_out_of_memory_or_failed_says_so_in_its_place() -> None:
    measured = {"seconds": 0.5, "bytes": 2_500_000_000}
    rows = [
        {"way": "ours", "quantization": "none", "batch": 1, "step": measured, "forward": measured, "share": 0.25},
        {"way": "ours", "quantization": "none", "batch": 4, "reason": "out of memory"},
        {"way": "peft", "quantization": "int8", "batch": 0, "reason": "RuntimeError: no kernel"},
    ]
    assert table("vit", rows, (1, 4)).splitlines()[2:] == [
        "| ours | 2 images/s, 25%, 2.50 GB; forward 2 | out of memory |",
        "| peft, int8 | RuntimeError: no kernel | RuntimeError: no kernel |",
    ]
