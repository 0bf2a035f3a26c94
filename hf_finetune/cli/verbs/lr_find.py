"""Run a learning-rate range test and plot it."""

from __future__ import annotations

import argparse

from hf_finetune.cli.plain import say
from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--low 1e-6] [--high 1] [--steps 60] [--plot FILE]"""
    add_recipe_arguments(parser)
    parser.add_argument("--low", type=float, default=1e-6, help="first learning rate (default 1e-6)")
    parser.add_argument("--high", type=float, default=1.0, help="last learning rate (default 1)")
    parser.add_argument("--steps", type=int, default=60, help="updates to try (default 60)")
    parser.add_argument("--plot", default="lr_find.png", help="where the plot goes (default lr_find.png)")


def run(options: argparse.Namespace) -> int:
    """Print the suggestion and write the plot."""
    from dataclasses import asdict

    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.lr_find import check_plot, find_learning_rate, plot

    recipe = recipe_of(options)
    check_plot(options.plot)
    found = find_learning_rate(recipe, low=options.low, high=options.high, steps=options.steps)
    drawn = plot(found, options.plot)
    if options.json:
        print_document({**asdict(found), "plot": drawn})
    else:
        say(found.render())
        say(drawn)
    return 0
