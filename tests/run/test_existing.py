"""A folder that holds a run: the next number, over it, or on from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hf_finetune.errors import RunFolderError
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.run.existing import settle_existing
from hf_finetune.run.folder import claim
from tests.cli.conftest import cli, photos, tiny  # noqa: F401
from tests.cli.conftest import recipe as small_recipe  # noqa: F401

Cli = Callable[..., tuple[int, str, str]]


def recipe_in(folder: Path, existing: str, *overrides: str) -> Recipe:
    return load_recipe({"output": {"dir": str(folder), "existing": existing}}, overrides)


def finished(folder: Path, *overrides: str) -> Path:
    claim(recipe_in(folder, "resume", *overrides))
    (folder / "run.json").write_text("{}")
    (folder / "adapter").mkdir()
    return folder


def test_the_next_free_number_is_taken_and_an_unfinished_one_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def place() -> Path:
        recipe, existing = settle_existing(recipe_in(run, "number"), 1)
        assert (existing, recipe.output.existing) == ("resume", "resume")
        return recipe.output.folder

    assert place() == run
    finished(run)
    assert place() == tmp_path / "run-2"
    claim(recipe_in(tmp_path / "run-2", "resume"))
    assert place() == tmp_path / "run-2"  # interrupted: the same command goes on with it
    claim(recipe_in(tmp_path / "run-3", "resume", "train.epochs=2"))
    (tmp_path / "run-2" / "run.json").write_text("{}")
    (tmp_path / "run-4").write_text("a file")
    assert place() == tmp_path / "run-5"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.validation_share=0.3"], "different there: data.validation_share"),
        (["train.seed=4"], "different there: train.seed (0, now 4)."),
        (["data.split_seed=1"], "different there: data.split_seed"),
        (["model.name=other/base"], "different there: model.name"),
        (["adapter.rank=4"], "different there: adapter.rank"),
        (["adapter.kind=full"], "goes on from the adapter of a run; adapter.kind is full, which has none."),
    ],
)
def test_a_run_of_other_rows_or_another_adapter_does_not_extend_it(
    overrides: list[str], said: str, tmp_path: Path
) -> None:
    finished(tmp_path / "run")
    with pytest.raises(RunFolderError) as caught:
        settle_existing(recipe_in(tmp_path / "run", "extend", *overrides), 1)
    assert said in str(caught.value) and "--overwrite" in str(caught.value)
    assert not (tmp_path / "run" / "before").exists()


def test_what_cannot_be_extended_says_what_to_do(tmp_path: Path) -> None:
    claim(recipe_in(tmp_path / "run", "resume"))
    with pytest.raises(RunFolderError, match="is not finished, so there is nothing to extend"):
        settle_existing(recipe_in(tmp_path / "run", "extend", "budget.time=2m"), 1)
    with pytest.raises(RunFolderError, match="--extend is for one process"):
        settle_existing(recipe_in(finished(tmp_path / "other"), "extend"), 2)
    assert settle_existing(recipe_in(tmp_path / "new", "extend"), 1)[1] == "resume"  # nothing there yet


@pytest.mark.e2e
def test_a_run_is_extended_and_then_overwritten(small_recipe: Path, tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    run = tmp_path / "run"
    assert cli("train", small_recipe, "budget.time=0", "train.learning_rate=0.003")[0] == 0
    first = json.loads((run / "run.json").read_text())
    longer = ["train", small_recipe, "ladder=[full]", "train.epochs=2", "train.learning_rate=0.003"]
    code, _, err = cli(*longer)
    assert code == 2
    for way in ("--number", "--overwrite", "--extend", "output.existing"):
        assert way in err
    (run / "mine.txt").write_text("a person's own")
    (run / "tracking").mkdir()
    (run / "tracking" / "state.json").write_text("{}")
    code, _, err = cli(*longer, "--extend")
    assert code == 0, err
    then = json.loads((run / "run.json").read_text())
    assert [rung["rung"] for rung in then["rungs"]] == ["start", "full"]
    assert then["rungs"][0]["validation"]["accuracy"] == pytest.approx(first["validation"]["accuracy"])
    assert then["validation"]["accuracy"] >= first["validation"]["accuracy"]
    assert json.loads((run / "before" / "run.json").read_text()) == first
    assert (run / "before" / "tracking" / "state.json").is_file() and not (run / "tracking").exists()
    assert yaml.safe_load((run / "recipe.yaml").read_text())["adapter"]["from"] == str(run / "before")

    code, _, err = cli("train", small_recipe, "budget.time=0", "adapter.kind=head_only", "--overwrite")
    assert code == 0, err
    assert [rung["rung"] for rung in json.loads((run / "run.json").read_text())["rungs"]] == ["probe"]
    assert not (run / "before").exists() and not (run / "checkpoints").exists()
    assert (run / "mine.txt").read_text() == "a person's own"
    assert yaml.safe_load((run / "recipe.yaml").read_text())["output"]["existing"] == "resume"


def test_another_seed_of_training_may_extend_a_run_whose_cut_has_a_seed_of_its_own(tmp_path: Path) -> None:
    finished(tmp_path / "run", "data.split_seed=1")
    recipe = recipe_in(tmp_path / "run", "extend", "data.split_seed=1", "train.seed=4")
    assert settle_existing(recipe, 1)[1] == "extend"
