"""docs/python.md, its blocks run as one program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.readme.blocks import blocks
from tests.readme.processes import execute

pytestmark = pytest.mark.e2e

PAGE = "docs/python.md"


def test_the_blocks_in_their_order_are_a_program_that_trains(tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text("\n".join(blocks(PAGE, "python")), encoding="utf-8")
    said = execute([sys.executable, str(program)], tmp_path).strip()
    assert said == "['callbacks', 'loss', 'metrics', 'transform'] 1.0 True"
    report = json.loads((tmp_path / "runs" / "own" / "run.json").read_text(encoding="utf-8"))
    assert report["extensions"]["transform"].startswith("torchvision.transforms.v2._color.ColorJitter")
    assert report["data"]["labels"][:2] == ["zero", "one"]
