"""Train a recipe; the same command resumes an unfinished run."""

from __future__ import annotations

import argparse
import signal
from types import FrameType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE [section.key=value …]"""
    parser.add_argument("recipe", help="a recipe file (see `hf-finetune recipes list`)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a value of the recipe")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"ended by signal {number}")


def run(options: argparse.Namespace) -> int:
    """Train, and print the summary on rank 0."""
    from hf_finetune import processes
    from hf_finetune.cli.files import recipe_path
    from hf_finetune.pipeline import train
    from hf_finetune.recipe import load_recipe

    recipe = load_recipe(recipe_path(options.recipe), options.overrides)
    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler that ends the job gets the best rung so far too
    try:
        finished = train(recipe)
    finally:
        processes.leave()
    if processes.is_first():
        from hf_finetune.report.summary import render_summary

        print(render_summary(finished.report, finished.folder.path))
    return 0
