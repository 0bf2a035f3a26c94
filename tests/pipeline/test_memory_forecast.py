"""A run's forecast beside what it took, and plans for machines that are not this one, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
STARTER = ("data.name=builtin:digits", "train.effective_batch_size=16", "train.micro_batch=16")


def command(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hf_finetune", verb, *arguments], capture_output=True, text=True)


def test_a_run_takes_what_was_forecast(tmp_path: Path) -> None:
    settings = ("ladder=[full]", "train.epochs=0.02", "train.patches_kept=1.0", "train.checkpointing=2")
    done = command("train", *STARTER, *settings, f"output.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    forecast, measured = report["memory"]["forecast"], report["memory"]["measured"]
    assert report["plan"]["checkpointing"]["value"] == 2
    assert forecast["total"] == sum(forecast["parts"].values())
    assert forecast["total"] == pytest.approx(measured["total"], rel=0.1)
    assert "forecast " in done.stdout and ", measured " in done.stdout


def test_a_plan_for_another_machine_and_what_makes_it_fit(tmp_path: Path) -> None:
    here = ("data.name=builtin:digits", "adapter.kind=full", f"output.dir={tmp_path / 'run'}")
    planned = command("plan", *here, "--device", "cuda:8GB", "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["device"]["value"] == "cuda" and plan["precision"]["value"] == "bf16"
    assert "process" not in plan["memory"]["bytes"] or plan["memory"]["bytes"]["process"] < 200e6

    least = sum(plan["memory"]["bytes"].values()) // 10**6
    refused = command("plan", *here, "--device", f"cuda:{max(90, least // 4)}MB")
    assert refused.returncode == 2, refused.stdout
    assert "may be used" in refused.stderr
    assert command("plan", *here, "--device", "gpu").stderr.startswith("hf-finetune: --device gpu: one of cuda, cpu")
