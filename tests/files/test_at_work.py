"""Whether a run folder has a process at work in it, and what its reader is told."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.files.at_work import is_at_work, way_on
from hf_finetune.run.folder import RunFolder, locked


def test_a_folder_is_at_work_while_its_run_holds_it(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    assert not is_at_work(tmp_path)
    assert not list(tmp_path.iterdir())
    with locked(RunFolder(tmp_path)):
        assert is_at_work(tmp_path)
        assert way_on(tmp_path, recipe) == "A process is at work in it: wait for its end."
    assert not is_at_work(tmp_path)
    assert way_on(tmp_path, recipe) == f"Go on with `hf-finetune train {recipe}`."
