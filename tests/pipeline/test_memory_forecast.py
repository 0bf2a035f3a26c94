"""A run's forecast beside what it took, and plans for machines that are not this one, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.cli import main

pytestmark = pytest.mark.e2e
STARTER = ("data.name=builtin:digits", "train.effective_batch_size=16", "train.micro_batch=16")


def test_a_run_takes_what_was_forecast(tmp_path: Path) -> None:
    settings = ("ladder=[full]", "train.epochs=0.02", "train.patches_kept=1.0", "train.checkpointing=2")
    # In a process of its own, whose memory holds nothing of other tests.
    line = ["train", *STARTER, *settings, f"output.dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-m", "hf_finetune", *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    forecast, measured = report["memory"]["forecast"], report["memory"]["measured"]
    assert report["plan"]["checkpointing"]["value"] == 2
    assert forecast["total"] == sum(forecast["parts"].values())
    assert forecast["total"] == pytest.approx(measured["total"], rel=0.1)
    assert "forecast " in done.stdout and ", measured " in done.stdout


def test_a_plan_for_another_machine_and_what_makes_it_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("data.name=builtin:digits", "adapter.kind=full", f"output.dir={tmp_path / 'run'}")
    assert main(["plan", *here, "--device", "cuda:8GB", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device"]["value"] == "cuda" and plan["precision"]["value"] == "bf16"
    assert "process" not in plan["memory"]["bytes"] or plan["memory"]["bytes"]["process"] < 200e6

    least = sum(plan["memory"]["bytes"].values()) // 10**6
    assert main(["plan", *here, "--device", f"cuda:{max(90, least // 4)}MB"]) == 2
    assert "may be used" in capsys.readouterr().err
    assert main(["plan", *here, "--device", "gpu"]) == 2
    assert capsys.readouterr().err.startswith("hf-finetune: --device gpu: one of cuda, cpu")
