"""The recipes in `recipes/`: each loads, opens with how to run it, and says what its knobs do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hf_finetune.recipe.recipe import dump_recipe, load_recipe

REPO = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPO / "recipes").rglob("*.yaml"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
# Accuracy, what it is of, seconds, machine and date, in this order; or that there are none. Further lines may follow.
MEASURED = re.compile(
    r"Measured: \.\d{3} of [\d,]+ test (images|photos), (seed \d+|mean of \w+ seeds), "
    r"in \d+ s on [\w ]+ \([\w ]+, \d{4}-\d\d-\d\d\)\."
)
NOT_MEASURED = "Measured: not measured."


def opening(path: Path) -> list[str]:
    """The comment block that a recipe opens with, without the `#`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").strip() for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != "#")]]


def knobs(node: yaml.Node, name: str = "") -> Iterator[tuple[str, int]]:
    """(dotted name, line number) of every value that is set, a list counting as one."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from knobs(value, f"{name}.{key.value}" if name else key.value)
    else:
        yield name, node.start_mark.line


def test_fourteen_recipes_are_shipped() -> None:
    assert len(RECIPES) == 14


def test_the_recipes_cover_every_adapter_and_quantizer_and_both_libraries() -> None:
    recipes = [load_recipe(path) for path in RECIPES]
    assert {recipe.adapter.kind for recipe in recipes} == {"lora", "head_only", "full"}
    assert {recipe.quantization.kind for recipe in recipes} == {"none", "int8", "nf4"}
    assert sum(recipe.model.name.startswith("timm/") for recipe in recipes) >= 3
    assert sum(not recipe.model.name.startswith(("timm/", "builtin:")) for recipe in recipes) >= 5


@each_recipe
def test_it_loads_and_its_resolved_form_loads_to_the_same(path: Path) -> None:
    recipe = load_recipe(path)
    assert load_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@each_recipe
def test_it_writes_to_a_run_folder_of_its_own_name(path: Path) -> None:
    assert load_recipe(path).output.dir == f"runs/{path.stem}"


@each_recipe
def test_it_opens_with_what_it_is_how_to_launch_it_and_what_was_measured(path: Path) -> None:
    first, *rest = opening(path)
    assert len(first) > 40
    name = path.relative_to(REPO).as_posix()
    assert any(line.split(" data.name=")[0] == f"hf-finetune train {name}" for line in rest)
    launch = next(line for line in rest if line.startswith("accelerate launch"))
    match = re.fullmatch(rf"accelerate launch --config_file (\S+) -m hf_finetune train {re.escape(name)}", launch)
    assert match is not None
    assert (REPO / match[1]).is_file()
    (measured,) = [line for line in rest if line.startswith("Measured:")]
    assert measured == NOT_MEASURED or MEASURED.fullmatch(measured), measured
    # At the same place in every recipe: behind everything else, but for what is said to it on at most one line more.
    assert len(rest) - rest.index(measured) <= 2
    assert rest[rest.index(measured) - 1] == ""


@each_recipe
def test_every_value_that_it_sets_is_followed_by_a_comment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    node = yaml.compose(text)
    assert node is not None
    assert [name for name, line in knobs(node) if len(lines[line].partition(" # ")[2]) < 10] == []
