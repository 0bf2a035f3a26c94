"""Validate a recipe and print what it resolves to; for images alone, the recipe that `train` would use."""

from __future__ import annotations

import argparse

from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--schema]"""
    add_recipe_arguments(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes, for editors")


def run(options: argparse.Namespace) -> int:
    """Print the resolved recipe, or the schema."""
    import json

    from hf_finetune.recipe.recipe import dump_recipe, recipe_schema

    if options.schema:
        print(json.dumps(recipe_schema(), indent=1))
        return 0
    print(dump_recipe(recipe_of(options)), end="")
    return 0
