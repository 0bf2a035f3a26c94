"""Validate a recipe and print what it resolves to."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE] [section.key=value …] [--schema]"""
    parser.add_argument("recipe", nargs="?", help="a recipe file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a value of the recipe")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes, for editors")


def run(options: argparse.Namespace) -> int:
    """Print the resolved recipe, or the schema."""
    import json

    from hf_finetune.cli.files import recipe_path
    from hf_finetune.errors import RecipeError
    from hf_finetune.recipe.recipe import dump_recipe, load_recipe, recipe_schema

    if options.schema:
        print(json.dumps(recipe_schema(), indent=1))
        return 0
    if options.recipe is None:
        raise RecipeError("A recipe file is expected.", "`hf-finetune check RECIPE`, or `check --schema`.")
    print(dump_recipe(load_recipe(recipe_path(options.recipe), options.overrides)), end="")
    return 0
