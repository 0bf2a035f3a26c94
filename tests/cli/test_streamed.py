"""Runs on a dataset of the Hub that does not fit: the model of all files at hand, scored again without any of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_shards import shards_of
from tests.hub_server.fixture import Hub, hub  # noqa: F401

pytestmark = pytest.mark.e2e


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Callable[..., str]:  # noqa: F811
    """Runs a verb against the Hub on loopback and gives what it said."""

    def run(verb: str, *arguments: object, offline: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hf_finetune", verb, *map(str, arguments)],
            env=hub.env(offline=offline) | {"HF_FINETUNE_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def test_the_model_is_that_of_all_files_at_hand(
    hub: Hub,  # noqa: F811
    recipe: Path,
    photos: Path,
    tmp_path: Path,
    command: Callable[..., str],
) -> None:
    repo = shards_of(photos, hub.folder / "datasets/org/photos", copies=3)
    limit = max(path.stat().st_size for path in repo.glob("*.tar")) * 2 + 1000
    one, other = tmp_path / "one", tmp_path / "other"
    streamed = ("data.name=org/photos", f"data.download_limit={limit / 1000}kB")
    said = command("train", recipe, *streamed, f"output.dir={one}")
    assert "each is fetched, read and removed" in said
    assert not list((tmp_path / "cache").rglob("*.tar"))
    command("train", recipe, "data.name=org/photos", f"output.dir={other}", f"data.cache_dir={tmp_path / 'all'}")
    weights = [(folder / "adapter/adapter_model.safetensors").read_bytes() for folder in (one, other)]
    assert weights[0] == weights[1]
    before = len(hub.requests)
    scored = command("evaluate", one, offline=True)
    assert "test accuracy" in scored and len(hub.requests) == before

    for pixels in (tmp_path / "cache/store").rglob("pixels.u8"):  # one bit of each first image
        with pixels.open("rb+") as file:
            byte = file.read(1)[0]
            file.seek(0)
            file.write(bytes([byte ^ 1]))
    again = command("evaluate", one)
    assert "damaged; it is drawn again" in again or "cannot be trusted" in again
    assert _score(again) == _score(scored)


def _score(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("test accuracy"))
