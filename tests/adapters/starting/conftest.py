"""A tiny base, photos and a recipe for whole runs; the Hub on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.photos import write_photos
from tests.cli.recipes import write_recipe
from tests.hub_server.fixture import hub  # noqa: F401
from tests.training.rows import save_tiny_vit


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def recipe(tmp_path: Path, base: Path, photos: Path) -> Path:
    return write_recipe(tmp_path, model=base, data=photos, epochs=2, learning_rate=0.003)
