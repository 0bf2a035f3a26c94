"""Starting a process for each verb, beside one that imports numpy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hf_finetune.cli import VERBS
from micro.interleaved import interleave


def start(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_start_of_each_verb(micro: Any) -> None:
    """All verbs in one round with one reference."""
    functions = {verb: (lambda verb=verb: start("-m", "hf_finetune", verb, "--help")) for verb in VERBS}
    functions["numpy"] = lambda: start("-c", "import numpy")

    def measure() -> dict[str, dict[str, list[float]]]:
        taken = interleave(functions, 6)
        return {f"start_{verb}": {"ours": taken[verb], "reference": taken["numpy"]} for verb in VERBS}

    found = micro.faults([f"start_{verb}" for verb in VERBS], measure)
    assert not found, "\n".join(found)
