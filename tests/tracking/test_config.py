"""The section, as a list and in full; names that no tracker takes; a tracker that is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import ValidationError

from hf_finetune.errors import MachineError, RecipeError
from hf_finetune.recipe.recipe import dump_recipe, load_recipe
from hf_finetune.run.folder import RunFolder, different_from
from hf_finetune.tracking import config
from hf_finetune.tracking.config import Tracking


@pytest.mark.parametrize(
    ("written", "to"),
    [
        ("tracking: [tensorboard, wandb]", ("tensorboard", "wandb")),
        ("tracking: wandb", ("wandb",)),
        ("tracking: {to: [mlflow, trackio, mlflow]}", ("mlflow", "trackio")),
        ("tracking: []", ()),
        ("tracking: none", ()),
        ("tracking:", ()),
        ("{}", ()),
    ],
)
def test_a_list_is_short_for_the_section(tmp_path: Path, written: str, to: tuple[str, ...]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(written, encoding="utf-8")
    assert load_recipe(path).tracking == Tracking(to=to)


def test_the_command_line_adds_a_project_to_a_list_and_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("tracking: [tensorboard]", encoding="utf-8")
    assert load_recipe(path, ["tracking.project=Blätter"]).tracking == Tracking(to=("tensorboard",), project="Blätter")
    assert load_recipe(path, ["tracking=[wandb, mlflow]"]).tracking.to == ("wandb", "mlflow")
    assert load_recipe(path, ["tracking=[]"]).tracking.to == ()


def test_a_dumped_recipe_reads_back_and_trackers_make_no_other_run(tmp_path: Path) -> None:
    recipe = load_recipe({"tracking": ["wandb"]}, ["tracking.name=second try", f"output.dir={tmp_path}"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert different_from(load_recipe({}), RunFolder(tmp_path)) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tracking=[tensorbord]", "did you mean tensorboard"),
        ("tracking.projct=x", "did you mean project"),
        ("tracking.name=a/b", "a name of at most 128 characters"),
        ("tracking.name=..", "not of dots alone"),
        ("tracking=5", "a section with keys is expected"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe({}, [override])
    assert override.partition("=")[0] in str(raised.value) and said in str(raised.value)


@pytest.mark.parametrize("name", ["a\nb", "x" * 129, "a:b", " ", "\t"])
def test_names_that_a_tracker_would_refuse_or_take_for_a_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        Tracking(name=name)


def test_an_absent_tracker_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"json"}
    monkeypatch.setattr(config, "find_spec", lambda name: find_spec("json") if name in there else None)
    Tracking().check_installed()
    with pytest.raises(MachineError) as raised:
        Tracking(to=("tensorboard", "wandb")).check_installed()
    assert "found no tensorboard and no wandb" in raised.value.message
    assert "pip install 'hf_finetune[tracking]'" in raised.value.hint
