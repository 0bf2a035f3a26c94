"""`--no-cache` removes what the run has put there, and no file of anybody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hf_finetune.cli.verbs.train import own_cache
from hf_finetune.errors import RecipeError
from hf_finetune.recipe.recipe import load_recipe


def test_a_file_of_somebody_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_FINETUNE_CACHE", "elsewhere")
    place = tmp_path / "run.cache"
    place.mkdir()
    (place / "thesis.txt").write_text("dear")
    with own_cache(load_recipe({"output": {"dir": str(tmp_path / "run")}})):
        assert os.environ["HF_FINETUNE_CACHE"] == str(place)
        (place / "store" / "entry").mkdir(parents=True)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]
    assert os.environ["HF_FINETUNE_CACHE"] == "elsewhere"


def test_a_folder_of_the_runs_own_goes(tmp_path: Path) -> None:
    with own_cache(load_recipe({"output": {"dir": str(tmp_path / "run")}})):
        (tmp_path / "run.cache" / "store").mkdir(parents=True)
    assert not (tmp_path / "run.cache").exists()


def test_a_named_cache_is_refused_beside_it(tmp_path: Path) -> None:
    recipe = load_recipe({"data": {"cache_dir": str(tmp_path)}})
    with pytest.raises(RecipeError, match=r"--no-cache: data\.cache_dir names a cache"), own_cache(recipe):
        pass
