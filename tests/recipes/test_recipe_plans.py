"""Every shipped recipe plans, its Hub facts served from loopback: real command line, no weights, no network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server.fixture import Hub
from tests.hub_server.recipe_repos import seed_recipe_folders, seed_recipe_repos

REPO = Path(__file__).resolve().parents[2]

# One process for all, since each would spend seconds importing transformers.
PLAN_ALL = """
import contextlib, io, json, sys
from hf_finetune.cli import main
outcomes = {}
for recipe in sys.argv[1:]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(["plan", recipe])
    outcomes[recipe] = [code, printed.getvalue()]
print(json.dumps(outcomes))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("depth", [2, pytest.param(None, id="whole", marks=pytest.mark.slow)])
def test_every_shipped_recipe_plans_with_the_facts_that_the_hub_serves(
    hub: Hub, tmp_path: Path, depth: int | None
) -> None:
    """A plan follows an update through every block, which of 24 takes as long as all else: two are planned here."""
    seed_recipe_repos(hub.folder, depth)
    seed_recipe_folders(tmp_path)
    shutil.copytree(REPO / "recipes", tmp_path / "recipes")
    recipes = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "recipes").rglob("*.yaml"))
    assert len(recipes) == 14
    environment = hub.env() | {"PYTHONPATH": str(REPO), "HF_FINETUNE_CACHE": str(tmp_path / "cache")}
    process = subprocess.run(
        [sys.executable, "-c", PLAN_ALL, *recipes],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    outcomes = json.loads(process.stdout.splitlines()[-1])
    assert {name: printed for name, (code, printed) in outcomes.items() if code != 0} == {}
    for name, (_, printed) in outcomes.items():
        assert "micro" in printed, f"{name}: {printed}"
    weights = [path for method, path, _ in hub.requests if method == "GET" and path.endswith(".safetensors")]
    assert weights == []
