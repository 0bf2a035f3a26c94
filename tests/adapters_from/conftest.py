"""A tiny base, photos and a recipe for whole runs; the Hub on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.photos import write_photos
from tests.hub.fixture import hub  # noqa: F401
from tests.training.rows import save_tiny_vit


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def recipe(tmp_path: Path, base: Path, photos: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{name: {base}}}\ndata: {{name: {photos}, validation_share: 0.2}}\n"
        "train: {epochs: 2, effective_batch_size: 16, learning_rate: 0.003, evaluations: 2, decode_workers: 1}\n"
        f"output: {{dir: {tmp_path / 'run'}}}\n",
        encoding="utf-8",
    )
    return path
