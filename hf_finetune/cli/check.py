"""Validate a recipe, print what it resolves to, and say how its data are read; a folder of images does, too."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of

if TYPE_CHECKING:
    from hf_finetune.recipe.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--schema]"""
    add_recipe_arguments(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes, for editors")


def run(options: argparse.Namespace) -> int:
    """Print the resolved recipe and, as comments below it, what its data are read as; or the schema."""
    import json

    from hf_finetune.recipe.recipe import dump_recipe, recipe_schema

    if options.schema:
        print(json.dumps(recipe_schema(), indent=1))
        return 0
    recipe = recipe_of(options)
    recipe.tracking.check_installed()
    print(dump_recipe(recipe), end="", flush=True)
    for line in _data_text(recipe).splitlines():
        print(f"# {line}".rstrip())
    return 0


def _data_text(recipe: Recipe) -> str:
    """What the data are read as, where they are on this machine: nothing is fetched to check a recipe."""
    from hf_finetune.data.index.scan import is_on_the_hub, scan
    from hf_finetune.pipeline.prepare import settle_task
    from hf_finetune.report.understood import render_data

    if is_on_the_hub(recipe.data.name):
        return f"data  {recipe.data.name} on the Hub: `hf-finetune plan` reads it"
    index = scan(recipe.data, seed=recipe.train.seed, reading=recipe.task.reading)
    settle_task(recipe, index)  # what of these labels cannot be learnt as the recipe says
    return render_data(index)
