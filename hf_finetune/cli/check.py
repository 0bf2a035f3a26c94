"""Validate a recipe, print what it resolves to, and say how its data are read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_finetune.recipe.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE] [section.key=value …] [--schema]"""
    parser.add_argument("recipe", nargs="?", help="a recipe file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a value of the recipe")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes, for editors")


def run(options: argparse.Namespace) -> int:
    """Print the resolved recipe and, as comments below it, what its data are read as; or the schema."""
    import json

    from hf_finetune.cli.files import recipe_path
    from hf_finetune.errors import RecipeError
    from hf_finetune.recipe.recipe import dump_recipe, load_recipe, recipe_schema

    if options.schema:
        print(json.dumps(recipe_schema(), indent=1))
        return 0
    if options.recipe is None:
        raise RecipeError("A recipe file is expected.", "`hf-finetune check RECIPE`, or `check --schema`.")
    recipe = load_recipe(recipe_path(options.recipe), options.overrides)
    print(dump_recipe(recipe), end="", flush=True)
    for line in _data_text(recipe).splitlines():
        print(f"# {line}".rstrip())
    return 0


def _data_text(recipe: Recipe) -> str:
    """What the data are read as, where they are on this machine: nothing is fetched to check a recipe."""
    from hf_finetune.data.index.scan import is_on_the_hub, scan
    from hf_finetune.report.understood import render_data

    if is_on_the_hub(recipe.data.name):
        return f"data  {recipe.data.name} on the Hub: `hf-finetune plan` reads it"
    return render_data(scan(recipe.data, seed=recipe.train.seed))
