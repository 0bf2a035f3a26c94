"""What a result folder says of itself, read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hf_finetune.adapters import HeadOnly
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.errors import AdapterError
from hf_finetune.result.manifest import read_manifest, write_manifest
from tests.result.results import save_result


def test_a_task_of_a_later_version_is_told(tmp_path: Path) -> None:
    result = save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path / "result")
    manifest = read_manifest(result)
    write_manifest(result, replace(manifest, task={"kind": "segmentation"}))
    with pytest.raises(AdapterError, match=r"a task that this version does not know, segmentation.*\n  Upgrade"):
        read_manifest(result)
