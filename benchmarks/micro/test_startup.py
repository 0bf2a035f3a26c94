"""Starting a process: for each verb up to its work, and for one that reads a recipe, a backbone and data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.cli import VERBS
from micro.interleaved import interleave

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"


def start(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_start_of_each_verb(micro: Any) -> None:
    """Its help, beside a process that imports numpy; all verbs in one round with one reference."""
    functions = {verb: (lambda verb=verb: start("-m", "hf_finetune", verb, "--help")) for verb in VERBS}
    functions["numpy"] = lambda: start("-c", "import numpy")

    def measure() -> dict[str, dict[str, list[float]]]:
        taken = interleave(functions, 6)
        return {f"start_{verb}": {"ours": taken[verb], "reference": taken["numpy"]} for verb in VERBS}

    found = micro.faults([f"start_{verb}" for verb in VERBS], measure, "process")
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_start_of_a_plan(micro: Any) -> None:
    """Everything that comes before the first image is decoded, beside the imports alone."""
    plan = ("-m", "hf_finetune", "plan", str(QUICKSTART))
    imports = ("-c", "import torch, torchvision, transformers, sklearn")
    micro.compare("start_plan_of_recipe", lambda: start(*plan), lambda: start(*imports), least=3, kind="process")
