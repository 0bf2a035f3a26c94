"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Small tensors: a second thread costs more than it brings, and spins when cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may reach the internet; Hub clients run in processes of their own, against a server on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and photos beside the repo (or where HF_FINETUNE_SHARED_DATA says), else a skip."""
    folder = Path(os.environ.get("HF_FINETUNE_SHARED_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real weights and photos are not at {folder}")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test gets an image-store cache of its own, so that no test passes on another's leftovers."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(cache))
    return cache
