"""Fixtures that every test folder shares."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium

__all__ = ["chromium"]

# Small tensors: a second thread costs more than it brings, and spins when cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may reach the internet; Hub clients run in processes of their own, against a server on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

REPO = Path(__file__).resolve().parents[1]
MARKS = ("e2e", "slow", "cluster")
_unmarked: list[str] = []  # the test that is at work, where it has none of the marks


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if _unmarked and event == "subprocess.Popen":
        program = Path(str(arguments[0] or arguments[1][0])).name
        if program.startswith(("python", "hf-finetune", "accelerate", "torchrun")):
            raise RuntimeError(f"{_unmarked[0]} starts a process: mark it e2e, and `make test-fast` stays fast")


sys.addaudithook(_refuse_processes)


def _refuse_training(*_: Any, **__: Any) -> None:
    raise RuntimeError("a test without a mark trains: mark it e2e, and `make test-fast` stays fast")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What starts a process or trains, also in a fixture, has a mark that says so."""
    if any(item.get_closest_marker(mark) for mark in MARKS):
        return (yield)
    _unmarked[:] = [item.nodeid]
    with pytest.MonkeyPatch.context() as patched:
        if trainer := sys.modules.get("transformers.trainer"):
            patched.setattr(trainer.Trainer, "train", _refuse_training)
        try:
            return (yield)
        finally:
            _unmarked.clear()


@pytest.fixture(scope="module", autouse=True)
def libraries_are_not_searched_for_garbage() -> None:
    """Trainer and accelerate call `gc.collect` in every run, which walks over all objects of the imported libraries:
    half a second each time. What is there before a file's first test is set apart; what its tests make is collected.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or nanobind, at the end, takes what was set apart for leaked


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
