"""What the command line and the decoding workers start with imports none of the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "timm", "peft", "datasets", "accelerate", "evaluate", "sklearn", "bitsandbytes",
         "matplotlib")  # fmt: skip
VERBS = ("train", "plan", "check", "evaluate", "predict", "demo", "doctor", "fix", "export", "lr-find", "report",
         "recipes", "env", "docs")  # fmt: skip


def heavy_after(code: str) -> list[str]:
    """The heavy libraries that are imported once `code` has run in a fresh process."""
    show = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    process = subprocess.run(
        [sys.executable, "-c", code + show], capture_output=True, text=True, cwd=REPO, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def sections() -> list[str]:
    """Every module that defines a section of the recipe."""
    return sorted(
        ".".join(path.relative_to(REPO).with_suffix("").parts)
        for path in (REPO / "hf_finetune").rglob("*.py")
        if "(Section):" in path.read_text(encoding="utf-8")
    )


def test_the_check_sees_a_heavy_import() -> None:
    assert heavy_after("import sklearn") == ["sklearn"]


def test_the_command_line_and_the_package_are_light() -> None:
    assert heavy_after("import hf_finetune, hf_finetune.cli, hf_finetune.__main__") == []


def test_the_recipe_and_every_section_are_light() -> None:
    found = sections()
    assert {"hf_finetune.recipe.recipe", "hf_finetune.adapters.lora", "hf_finetune.data.config"} <= set(found)
    assert heavy_after("import hf_finetune.types, hf_finetune.recipe.recipe, " + ", ".join(found)) == []


def test_a_shipped_recipe_is_read_and_its_schema_made_without_a_heavy_library() -> None:
    code = "from hf_finetune.recipe.recipe import *\n"
    code += "load_recipe('recipes/quickstart.yaml', ['train.epochs=3'])\nrecipe_schema()"
    assert heavy_after(code) == []


def test_the_plan_is_made_of_light_modules() -> None:
    assert heavy_after("import hf_finetune.plan.plan, hf_finetune.plan.forecast, hf_finetune.machine.detect") == []


def test_a_decoding_worker_is_light() -> None:
    assert heavy_after("import hf_finetune.data.store.worker") == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_is_light(verb: str) -> None:
    code = (
        f"from hf_finetune.cli import main\ntry:\n    main([{verb!r}, '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0"
    )
    assert heavy_after(code) == []
