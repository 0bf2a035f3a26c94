"""Print what a run would do, and why, without loading weights."""

from __future__ import annotations

import argparse

from hf_finetune.cli.plain import say
from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of

JSON = "print plan.json and what the data are read as, instead of the tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--device cuda:8GB]"""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--device", metavar="KIND:MEMORY", help="another machine to plan for: cuda:8GB, cpu:16GB; not this one"
    )


def run(options: argparse.Namespace) -> int:
    """Print the plan."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.prepare import prepare_run, refuse_no_validation
    from hf_finetune.plan.eight_bit import savings
    from hf_finetune.report.summary import render_plan
    from hf_finetune.report.tables import terminal_width, wrapped
    from hf_finetune.report.understood import data_as_dict, render_data
    from hf_finetune.run.folder import plan_as_dict

    recipe = recipe_of(options)
    recipe.tracking.check_installed()
    context = prepare_run(recipe, device=options.device)
    refuse_no_validation(context.index)
    if options.json:
        print_document({**plan_as_dict(context.plan), "data": data_as_dict(context.index)})
    else:
        say(render_data(context.index))
        say(render_plan(context.plan))
        for saving in savings(context):
            say(wrapped(f"{saving.text}.", terminal_width(), "  "))
    return 0
