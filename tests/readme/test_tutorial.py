"""The tutorial's commands work on a folder of photos, in its order, on the built-in backbone in place of a Hub's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.readme.blocks import blocks, commands
from tests.readme.processes import execute

pytestmark = pytest.mark.e2e

PAGE = "docs/tutorial.md"
# Not run here, each for a reason.
ELSEWHERE = {
    "python -m venv .venv": "makes an environment",
    "source .venv/bin/activate": "as above",
    "pip install -e .": "as above",
    "hf auth login": "needs an account",
    "hf-finetune push runs/photos --repo photos": "needs a Hub: tests/hub",
    "hf-finetune predict anna/photos new_photo.jpg": "as above",
}
RUN = [command for command in commands(PAGE) if command not in ELSEWHERE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's recipe and photos whose two kinds are bright and dark."""
    folder = tmp_path_factory.mktemp("tutorial")
    (recipe,) = blocks(PAGE, "yaml")
    name = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert name in recipe
    (folder / "photos.yaml").write_text(recipe.replace(name, "builtin:starter"), encoding="utf-8")
    noise = np.random.default_rng(0)
    for label, low in (("ants", 0), ("bees", 120)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(30):
            pixels = noise.integers(low, low + 130, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.jpg")
    Image.fromarray(np.full((40, 48, 3), 60, np.uint8)).save(folder / "new_photo.jpg")
    return folder


def test_every_command_is_run_here_or_named_with_a_reason() -> None:
    assert set(ELSEWHERE) <= set(commands(PAGE))
    assert [command.split()[1] for command in RUN] == [
        "check",
        "plan",
        "train",
        "predict",
        "evaluate",
        "push",
        "export",
    ]


@pytest.mark.slow
def test_the_commands_work_in_order(folder: Path) -> None:
    printed = {command.split()[1]: execute(command, folder, HF_HUB_OFFLINE="1") for command in _shorter(RUN)}
    assert "name: photos/" in printed["check"]
    assert "# classes     2: ants, bees" in printed["check"]
    assert printed["plan"].startswith("data ") and "\nsetting " in printed["plan"]
    assert "test accuracy" in printed["train"]
    assert printed["predict"].startswith("new_photo.jpg  ants ")
    assert "test accuracy" in printed["evaluate"]
    assert "adapter_model.safetensors" in printed["push"]
    assert (folder / "whole" / "model.safetensors").is_file()


def _shorter(run: list[str]) -> list[str]:
    """The probe alone: what the other rungs do is tested elsewhere."""
    return [f"{command} budget.time=0" if command.startswith("hf-finetune train ") else command for command in run]
