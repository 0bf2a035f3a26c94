"""A run from the command line, on one process or on several of this machine's CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "accelerate_configs" / "cpu_multi.yaml"
ON_CPUS = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def train(recipe: Path, out: Path, processes: int, *overrides: str) -> dict[str, Any]:
    """run.json of the run in `out`."""
    launcher = [sys.executable, "-m", "hf_finetune"]
    if processes > 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
        launcher = [*launch, "--num_processes", str(processes), "-m", "hf_finetune"]
    command = [*launcher, "train", str(recipe), f"output.dir={out}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ON_CPUS})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "run.json").read_text("utf-8"))
