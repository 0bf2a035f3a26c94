"""Print what a run would do, and why, without loading weights."""

from __future__ import annotations

import argparse

from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--device cuda:8GB] [--json]"""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--device", metavar="KIND:MEMORY", help="another machine to plan for: cuda:8GB, cpu:16GB; not this one"
    )
    parser.add_argument("--json", action="store_true", help="print plan.json instead of the table")


def run(options: argparse.Namespace) -> int:
    """Print the plan."""
    import json

    from hf_finetune.pipeline.prepare import prepare_run, refuse_no_validation
    from hf_finetune.plan.eight_bit import savings
    from hf_finetune.report.summary import render_plan
    from hf_finetune.report.tables import terminal_width, wrapped
    from hf_finetune.report.understood import render_data
    from hf_finetune.run.folder import plan_as_dict

    recipe = recipe_of(options)
    recipe.tracking.check_installed()
    context = prepare_run(recipe, device=options.device)
    refuse_no_validation(context.index)
    if options.json:
        print(json.dumps(plan_as_dict(context.plan), indent=1, ensure_ascii=False))
    else:
        print(render_data(context.index))
        print(render_plan(context.plan))
        for saving in savings(context):
            print(wrapped(f"{saving.text}.", terminal_width(), "  "))
    return 0
