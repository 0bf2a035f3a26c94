"""The README's commands and Python do what it says, run in its order in a copy of the checkout's top level."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
LINES = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.strip()]
COMMANDS = [line.split("  #")[0].strip() for line in LINES]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
# Not run here, each for a reason; what they do is tested elsewhere.
ELSEWHERE = {
    "make quickstart": "makes an environment; run by hand in a fresh clone, and its commands below",
    "make test": "this is it",
    "python -m venv .venv": "as above",
    "source .venv/bin/activate": "as above",
    "pip install -e .": "as above",
    "hf-finetune train recipes/beans.yaml": "needs Hub weights; every recipe is planned in tests/recipes",
    "hf-finetune train recipes/beans.yaml data.name=photos/ output.dir=runs/photos budget.time=5m": "as above",
    "hf-finetune plan recipes/beans.yaml": "planned against a Hub on loopback in tests/recipes",
}
RUN = [command for command in COMMANDS if command not in ELSEWHERE]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("recipes", "accelerate_configs", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return folder


def execute(command: list[str] | str, checkout: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=checkout,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_command_is_run_here_or_named_with_a_reason() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    assert len(RUN) >= 4
    assert len(PYTHON) == 3


def test_the_commands_and_then_the_python_work(checkout: Path) -> None:
    printed = [execute(command, checkout) for command in RUN]
    assert "test accuracy" in printed[0]
    assert printed[1].startswith("docs/digit.png  7 ")
    answers = [execute([sys.executable, "-c", text], checkout) for text in PYTHON]
    assert answers[1].strip() == "7"
    assert (checkout / "runs" / "notebook" / "adapter").is_dir()


def test_the_yaml_is_a_recipe(tmp_path: Path) -> None:
    from hf_finetune.recipe.recipe import load_recipe

    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml").budget.memory == 4_000_000_000
