"""The README's commands and Python do what it says, run in its order in a copy of the checkout's top level."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.readme.blocks import ROOT, blocks, commands
from tests.readme.processes import execute

pytestmark = pytest.mark.e2e

PAGE = "README.md"
# Not run here, each for a reason; what they do is tested elsewhere.
ELSEWHERE = {
    "make quickstart": "makes an environment; run by hand in a fresh clone, and its commands below",
    "make test": "this is it",
    "python -m venv .venv": "as above",
    "source .venv/bin/activate": "as above",
    "pip install -e .": "as above",
    "hf-finetune train photos/": "needs Hub weights; trained against a Hub on loopback in tests/cli/test_from_data.py",
    "hf-finetune plan photos/": "as above",
    "hf-finetune train photos/ model.name=facebook/dinov2-small budget.time=5m": "as above",
}
RUN = [command for command in commands(PAGE) if command not in ELSEWHERE]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("recipes", "accelerate_configs", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def test_every_command_is_run_here_or_named_with_a_reason() -> None:
    assert set(ELSEWHERE) <= set(commands(PAGE))
    assert RUN == [
        "hf-finetune train recipes/quickstart.yaml",
        "hf-finetune predict runs/quickstart docs/digit.png",
        "hf-finetune recipes list",
    ]


def test_the_commands_and_then_the_python_work(checkout: Path) -> None:
    trained, predicted, listed = (execute(command, checkout) for command in RUN)
    assert "test accuracy" in trained
    assert predicted.startswith("docs/digit.png  7 ")
    assert "beans" in listed
    (python,) = blocks(PAGE, "python")
    assert execute([sys.executable, "-c", python], checkout).split() == ["True", "7"]
    assert (checkout / "runs" / "python" / "adapter").is_dir()


def test_the_yaml_is_a_recipe(tmp_path: Path) -> None:
    from hf_finetune.recipe.recipe import load_recipe

    (text,) = blocks(PAGE, "yaml")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml").budget.memory == 4_000_000_000


def test_it_stays_short() -> None:
    assert len((ROOT / PAGE).read_text(encoding="utf-8").splitlines()) <= 110
