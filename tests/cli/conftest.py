"""One tiny checkpoint and one folder of photos for all command-line tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_finetune.cli import main
from tests.cli.photos import write_photos
from tests.cli.recipes import write_recipe
from tests.training.rows import save_tiny_vit


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def recipe(tmp_path: Path, tiny: Path, photos: Path) -> Path:
    return write_recipe(tmp_path, model=tiny, data=photos, epochs=4, learning_rate=0.01)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a verb in this process; returns exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
