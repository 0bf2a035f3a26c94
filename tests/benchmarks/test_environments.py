"""Environments of the references: what is written when one cannot be made, with no network."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("environments")


def test_refused_requirement_is_recorded(environments, tmp_path: Path):
    requirements = tmp_path / "some.txt"
    requirements.write_text(f"{tmp_path / 'no-such-package'}\n")

    record = environments.make(tmp_path / "made", "some", requirements, "import json")

    assert record["python"] is None
    assert "no-such-package" in record["reason"]
    assert json.loads((tmp_path / "made" / "some.json").read_text()) == record
    assert environments.environment(tmp_path / "made", "some") == (None, record["reason"])


@pytest.mark.slow
def test_usable_environment_is_kept_and_one_that_does_not_import_is_refused(environments, tmp_path: Path):
    requirements = tmp_path / "some.txt"
    requirements.write_text("")

    first = environments.make(tmp_path, "some", requirements, "import pip")
    kept = Path(first["python"]).parents[1] / "kept"
    kept.touch()

    assert environments.make(tmp_path, "some", requirements, "import pip") == first
    assert kept.exists()
    assert environments.environment(tmp_path, "some") == (first["python"], None)
    assert "pip" in first["versions"]

    requirements.write_text("# changed\n")
    refused = environments.make(tmp_path, "some", requirements, "import torch")
    assert refused["python"] is None
    assert "No module named 'torch'" in refused["reason"]
    assert not kept.exists()


def test_environment_never_made_names_the_command(environments, tmp_path: Path):
    python, reason = environments.environment(tmp_path, "fastai")

    assert python is None
    assert f"python benchmarks/environments.py {tmp_path} fastai" in reason
