"""Validate a recipe, print what it resolves to, say how its data are read, and open some of the images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hf_finetune.cli.plain import say
from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of

if TYPE_CHECKING:
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.types import Index


JSON = "print recipe and data as one JSON document"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--schema]"""
    add_recipe_arguments(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes, for editors")


def run(options: argparse.Namespace) -> int:
    """Print the resolved recipe and, as comments below it, what its data are read as; or the schema."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.recipe.recipe import dump_recipe, recipe_schema

    if options.schema:
        print_document(recipe_schema())
        return 0
    recipe = recipe_of(options)
    recipe.tracking.check_installed()
    if options.json:
        from hf_finetune.report.understood import data_as_dict

        index = _index(recipe)
        data = None if index is None else data_as_dict(index) | {"opened": _opened(recipe, index)}
        print_document({"recipe": recipe.model_dump(mode="json"), "data": data})
        return 0
    say(dump_recipe(recipe), end="", flush=True)
    for line in _data_text(recipe).splitlines():
        say(f"# {line}".rstrip())
    return 0


def _data_text(recipe: Recipe) -> str:
    """What the data are read as; which command says so of those that are not here."""
    from hf_finetune.report.understood import render_data

    index = _index(recipe)
    if index is None:
        return f"data  {recipe.data.name} on the Hub: `hf-finetune plan` reads it"
    from hf_finetune.data.opened import open_some

    return render_data(index, beside=[("opened", str(open_some(index, recipe.data.max_pixels)))])


def _opened(recipe: Recipe, index: Index) -> dict[str, Any]:
    from dataclasses import asdict

    from hf_finetune.data.opened import open_some

    return asdict(open_some(index, recipe.data.max_pixels))


def _index(recipe: Recipe) -> Index | None:
    """The data, where they are on this machine: nothing is fetched to check a recipe."""
    from hf_finetune.data.index.scan import scan
    from hf_finetune.data.index.source_of import is_on_the_hub
    from hf_finetune.pipeline.prepare import settle_task

    if is_on_the_hub(recipe.data.name):
        return None
    index = scan(recipe.data, seed=recipe.train.seed, reading=recipe.task.reading)
    settle_task(recipe, index)  # what of these labels cannot be learnt as the recipe says
    return index
