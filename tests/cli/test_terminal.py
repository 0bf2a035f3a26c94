"""What a person sees of a command: quiet, redirected, misspelt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


def test_a_quiet_run_says_its_result_alone(recipe: Path, cli: Cli) -> None:
    code, out, err = cli("train", recipe, "ladder=[probe]", "-q")
    assert (code, err) == (0, "")
    assert "test accuracy" in out


def test_what_a_run_writes_into_a_file_is_whole_lines(recipe: Path, cli: Cli) -> None:
    code, _, err = cli("train", recipe, "train.epochs=1")
    assert code == 0
    assert "\r" not in err
    assert "more settings: `hf-finetune plan`" in err and "warmup_steps" not in err
    assert "warmup_steps" in cli("plan", recipe)[1]
